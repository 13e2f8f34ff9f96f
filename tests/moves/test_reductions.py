"""An affine moved through means and sums."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.moves.support import (
    Model,
    before,
    behind,
    checked,
    image,
    named,
    operations,
    settled,
    unshifted,
)
from tests.support import ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[Any, Tensor], Any]

# For each reduction whether any affine passes, or a scale alone.
RUNS: dict[str, tuple[Run, bool]] = {
    "mean": (lambda m, y: y.mean((2, 3), keepdim=True), True),
    "mean-by-axis": (lambda m, y: named(torch.mean, y, axis=3, keepdims=True), True),
    "sum-of-unknown-sizes": (lambda m, y: y.sum((2, 3), keepdim=True), False),
    "sum": (lambda m, y: F.adaptive_avg_pool2d(y, (2, 3)).sum((2, 3), keepdim=True), True),
    "sum-without-axis": (lambda m, y: y.sum(3).unsqueeze(3), False),
    "torch-sum": (lambda m, y: torch.sum(y.repeat_interleave(2, 2)[:, :, :2], 2, True), False),
}
NONE: dict[str, Run] = {
    "sum-of-channels": lambda m, y: y.sum(1, keepdim=True).expand(-1, 4, -1, -1),
    "sum-of-all": lambda m, y: y * 0 + y.sum(),
    "mean-as-a-dtype": lambda m, y: y.mean((2, 3), keepdim=True, dtype=torch.float64),
    "sum-as-a-dtype": lambda m, y: y.sum((2, 3), keepdim=True, dtype=torch.float64),
    "axis-computed": lambda m, y: y.sum(y.dim() - 1, keepdim=True),
}


@pytest.mark.parametrize("is_up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("name", RUNS)
def test_both_ways(name: str, is_up: bool) -> None:
    run, takes_shift = RUNS[name]
    model, x = (behind(run, 4), image()) if is_up else (before(run, 4), image(4))
    assert settled(model, x) == takes_shift
    assert settled(unshifted(model), x) == 1


@pytest.mark.parametrize("is_up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("name", NONE)
def test_neither_way(name: str, is_up: bool) -> None:
    run = NONE[name]
    model, x = (behind(run, 4), image()) if is_up else (before(run, 4), image(4))
    assert settled(model, x) == 0


@pytest.mark.parametrize("reduce", ["mean", "sum"])
@pytest.mark.parametrize("keeps", [True, False])
def test_a_shift_along_the_axis_is_reduced_itself(reduce: str, keeps: bool) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = getattr(m.a(x).sigmoid() + m.c, reduce)(1, keepdim=keeps)
        return m.head(y if keeps else y.unsqueeze(1))

    layers: dict[str, Any] = {
        "a": nn.Conv2d(3, 4, 1),
        "c": torch.zeros(4, 1, 1),
        "head": nn.Conv2d(1, 2, 1),
    }
    fused, _ = checked(ready(Model(run, **layers)), image())
    assert "add" not in operations(fused)


def test_a_scale_along_the_axis_weighs_the_elements() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.head((m.a(x).sigmoid() * m.c).mean(1, keepdim=True))

    layers: dict[str, Any] = {
        "a": nn.Conv2d(3, 4, 1),
        "c": torch.zeros(4, 1, 1),
        "head": nn.Conv2d(1, 2, 1),
    }
    model = ready(Model(run, **layers))
    assert "mul" in operations(checked(model, image())[0])
    model.c.data.fill_(-2)
    assert "mul" not in operations(checked(model, image())[0])


def test_numbers_on_the_way_to_a_sum() -> None:
    model = ready(Model(lambda m, x: m.a(x).sum((2, 3)) * 2, a=nn.Conv2d(3, 4, 1)))
    assert "mul" not in operations(checked(model, image())[0])
    model.run = lambda m, x: m.a(x).sum((2, 3)) + 2
    assert "add" in operations(checked(model, image())[0])
    model.run = lambda m, x: F.adaptive_avg_pool2d(m.a(x), 2).sum((2, 3)) + 2
    assert "add" not in operations(checked(model, image())[0])
