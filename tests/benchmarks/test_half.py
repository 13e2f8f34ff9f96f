"""The benchmark of half precision: its figures, and its float16 convolutions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import fx, nn

from benchmarks.half import WideProducts, candidates, norms_called, smallest_input
from benchmarks.half_table import as_table, geometric_mean, ratio, totals
from tests.support import noise, ready


def row(setting: str, error: float | None, folds: int = 20) -> dict[str, Any]:
    made = {"model": "m", "dtype": "float16", "setting": setting, "input": (3, 64, 64)}
    errors = {"unfused": 2.0, "bnfuse": error, "with_example": error, "torch_fx": None}
    return made | errors | {"spread": 0.1, "folds": folds, "folds_in_float32": 20}


def test_the_ratio_is_to_the_unfused_model() -> None:
    assert ratio(row("stored", 1.0)) == pytest.approx(0.5)
    assert ratio(row("stored", None)) is None
    assert ratio(row("stored", 1.0) | {"unfused": None}) is None
    assert ratio(row("stored", 1.0), "torch_fx") is None
    assert geometric_mean([0.5, 2.0]) == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("rows", "told"),
    [
        ([row("converted", 1.7), row("converted", 1.8)], ""),
        ([row("converted", 1.0), row("converted", 2.4)], "missed"),
        ([row("converted", 1.9), row("converted", 1.9)], "missed"),
        ([row("converted", 1.0, folds=18), row("converted", 1.0)], ""),
        ([row("converted", 1.0, folds=17), row("converted", 1.0)], "missed"),
        ([row("stored", 2.2), row("stored", 2.8)], "missed"),
        ([row("stored", 1.9), row("stored", 2.8)], ""),
    ],
)
def test_what_is_asked_and_missed_is_told(rows: list[dict[str, Any]], told: str) -> None:
    assert set(totals(rows).columns[-1].cells) == {told}
    assert as_table(rows).row_count == 1


def test_float16_is_rounded_once_from_float32() -> None:
    layer, x = nn.Conv2d(4, 5, 3, bias=False).half(), noise(2, 4, 9, 9).half()
    with torch.no_grad(), WideProducts():
        made = layer(x)
        assert layer.double()(x.double()).dtype is torch.float64
        wanted = layer.float()(x.float()).half()
    assert made.dtype is torch.float16
    assert torch.equal(made, wanted)
    rows, columns = noise(5, 300).half(), noise(300, 7).half()
    with WideProducts():
        linear = torch.nn.functional.linear
        products = [rows @ columns, linear(rows, columns.T), linear(rows, weight=columns.T)]
    wanted = (rows.float() @ columns.float()).half()
    assert all(torch.equal(made, wanted) for made in products)


def test_the_smallest_input_is_one_that_the_model_takes() -> None:
    large = nn.Sequential(nn.Conv2d(3, 1, 100), nn.Flatten())
    assert smallest_input(large, torch.zeros(1, 3, 224, 224)) == (3, 128, 128)
    fixed = nn.Sequential(nn.Flatten(), nn.Linear(3 * 70 * 70, 1))
    assert smallest_input(fixed, torch.zeros(1, 3, 70, 70)) == (3, 70, 70)


def test_candidates_are_made_of_the_same_model() -> None:
    model = ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))).float()
    for made in candidates(model, torch.bfloat16, "converted", noise(1, 3, 9, 9).float()).values():
        candidate = made()
        assert candidate is not None
        assert {p.dtype for p in candidate.parameters()} == {torch.bfloat16}
    assert {p.dtype for p in model.parameters()} == {torch.float32}


def test_batch_norms_that_torch_fx_leaves_are_counted() -> None:
    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            mean, var = self.norm.running_mean, self.norm.running_var
            return self.norm(nn.functional.batch_norm(x, mean, var))

    assert norms_called(fx.symbolic_trace(Net())) == 2
    assert norms_called(Net()) is None
    assert math.isclose(geometric_mean([3.0]), 3.0)
