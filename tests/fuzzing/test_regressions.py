"""Models that once came out wrong, made smaller; those that still do are expected to.

A case in ``regressions.json`` is a program, why it went wrong, and what does not handle it yet.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from tests.fuzzing.checking import check
from tests.fuzzing.program import Program
from tests.support import noise, ready, relative_error

CASES: list[dict[str, Any]] = json.loads(
    Path(__file__).with_name("regressions.json").read_text(encoding="utf-8")
)


def marked(case: dict[str, Any]) -> Any:
    """Return the parameter of a case, expected to fail where it is open."""
    why = f"{case['open']}: {case['why']}"
    marks = [pytest.mark.xfail(reason=why, strict=True)] if case["open"] else []
    return pytest.param(Program.from_dict(case["program"]), id=case["name"], marks=marks)


@pytest.mark.parametrize("program", [marked(case) for case in CASES])
def test_a_model_that_once_came_out_wrong(program: Program) -> None:
    assert check(program).wrong == []


class ViewBehindNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(5, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.linear(x).transpose(1, 2))
        return y.view(y.shape[0], -1)


def test_a_view_of_a_norm_takes_a_dense_value() -> None:
    model, x = ready(ViewBehindNorm()), noise(2, 6, 5)
    assert relative_error(bnfuse.optimize(model, (x,))(x), model(x)) < 1e-12


class BranchOnData(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(3, track_running_stats=True)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(x)
        return y if y.sum() > 0 else -y


def test_an_instance_norm_of_a_forward_that_stays_python_is_listed() -> None:
    assert bnfuse.explain(ready(BranchOnData())).total == 1


class ChannelsToTheEnd(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.linear(x.transpose(1, -1)).transpose(1, -1))
        return y


@pytest.mark.xfail(reason="two dimensions are assumed, in which the swap does nothing", strict=True)
def test_axes_that_are_swapped_are_not_taken_for_one() -> None:
    model, x = ready(ChannelsToTheEnd()), noise(2, 4, 6)
    assert torch.allclose(bnfuse.optimize(model)(x), model(x))
