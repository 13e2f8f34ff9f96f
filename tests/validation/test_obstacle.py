"""Whether a model runs on a call."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import RequestError
from bnfuse.validation.obstacle import beside, cannot_run, check_call, obstacle

X = torch.arange(6.0).reshape(2, 3)


class Counting(nn.Module):
    """A model that counts its calls, writes its input and takes batches of two alone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x.mul_(2).reshape(2, -1)[:, :3]


def test_obstacle_is_what_a_call_raises() -> None:
    model = Counting()
    assert obstacle(model, ((X,), {})) is None
    assert isinstance(obstacle(model, ((X[:1, :1],), {})), RuntimeError)
    assert model.calls == 0  # a copy was called
    assert torch.equal(X, torch.arange(6.0).reshape(2, 3))


def test_a_call_that_a_model_refuses_is_refused() -> None:
    check_call(nn.Linear(3, 2), ((X,), {}))
    wanted = (
        "Linear cannot run on the example inputs (RuntimeError: mat1 and mat2 shapes cannot be "
        "multiplied (2x2 and 3x2)): pass inputs that the model accepts, or --input SHAPE on the "
        "command line."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        check_call(nn.Linear(3, 2), ((X[:, :2],), {}))


def test_the_error_is_a_line() -> None:
    assert "(ValueError: one): " in str(cannot_run(nn.ReLU(), ValueError("\none\ntwo")))
    assert "(AssertionError: ): " in str(cannot_run(nn.ReLU(), AssertionError()))


def test_arguments_go_where_the_model_is() -> None:
    meta = nn.Linear(3, 2, device="meta")
    (args, kwargs) = beside(meta, ((X, "text"), {"x": [X]}))
    assert (args[0].device.type, args[1], kwargs["x"][0].device.type) == ("meta", "text", "meta")
    several = nn.Sequential(meta, nn.Linear(2, 2))
    for model in (nn.ReLU(), several):
        assert beside(model, ((X,), {}))[0][0] is X


def test_explain_refuses_what_optimize_refuses() -> None:
    model = nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2)).eval()
    for shape in ((1, 5, 8, 8), (3, 2)):
        errors = []
        for function in (bnfuse.explain, bnfuse.optimize):
            with pytest.raises(RequestError, match="Sequential cannot run on the example") as error:
                function(model, (torch.randn(shape),))
            errors.append(str(error.value))
        assert errors[0] == errors[1]
    assert len(bnfuse.explain(model, (torch.randn(1, 3, 8, 8),)).folded) == 1
    assert len(bnfuse.explain(model).folded) == 1
