"""An affine moved through absolute values, gates and softmax."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from tests.moves.support import (
    Model,
    before,
    behind,
    checked,
    image,
    operations,
    positive,
    settled,
    unshifted,
)
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[Any, Tensor], Any]


def signed(model: Model) -> Model:
    """Leave the shifts of a norm out, and make its scales of both signs."""
    unshifted(model).norm.weight.data[::2] *= -1
    return model


def test_an_absolute_value_takes_the_size_of_a_scale_down() -> None:
    model = before(lambda m, y: y.abs(), 4)
    assert settled(model, image(4)) == 0
    assert settled(positive(model), image(4)) == 0
    assert settled(signed(model), image(4)) == 1
    assert "abs" in operations(bnfuse.optimize(model))


def test_an_absolute_value_lets_positive_scales_up() -> None:
    model = behind(lambda m, y: torch.abs(y), 4)
    assert settled(model, image()) == 0
    assert settled(signed(model), image()) == 0
    assert settled(unshifted(model), image()) == 1


@pytest.mark.parametrize("run", [lambda m, y: F.glu(y, 1), lambda m, y: m.op(y)])
def test_a_scale_goes_up_to_the_half_that_is_let_through(run: Run) -> None:
    model = behind(run, 2, op=nn.GLU(-3))
    assert settled(model, image()) == 0
    assert settled(signed(model), image()) == 1


def test_a_gate_along_another_axis() -> None:
    """Its sizes are not known, and the gate itself would have to stay."""
    model = behind(lambda m, y: F.glu(y), 4)
    assert settled(signed(model), image()) == 0
    model = behind(lambda m, y: F.glu(y, y.dim() - 3), 2)
    assert settled(signed(model), image()) == 0


@pytest.mark.parametrize(("gate", "takes"), [(1.0, 1), (2.0, 0)])
def test_a_scale_goes_down_past_a_gate_that_it_does_not_touch(gate: float, takes: int) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(F.glu(m.a(x).sigmoid() * m.c, 1))

    layers: dict[str, Any] = {"a": nn.Conv2d(3, 4, 1), "head": nn.Conv2d(2, 2, 1)}
    model = ready(Model(run, c=torch.zeros(4, 1, 1), **layers))
    model.c.data.copy_(torch.tensor([2.0, -3.0, gate, gate]).reshape(4, 1, 1))
    assert ("mul" not in operations(checked(model, image())[0])) == takes


def test_a_shift_before_a_gate_stays() -> None:
    model = before(lambda m, y: F.glu(y, 1), 2)
    assert settled(model, image(4)) == 0


SOFTMAX: dict[str, tuple[Run, bool]] = {
    "number": (lambda m, y: F.softmax(y + 2, 1), True),
    "number-of-a-sum": (lambda m, y: (3 + y).log_softmax(-1), True),
    "layer": (lambda m, y: m.op(y - 2), True),
    "other-axis": (lambda m, y: torch.softmax(y + m.c, dim=2), True),
    "layout-between": (lambda m, y: (y + m.c).permute(0, 2, 3, 1).log_softmax(2), True),
    "its-own-axis": (lambda m, y: (y + m.c).softmax(1), False),
    "scale": (lambda m, y: (y * 2).softmax(1), False),
    "another-dtype": (lambda m, y: (y + m.c).softmax(2, dtype=torch.float64), False),
    "axis-computed": (lambda m, y: (y + m.c).softmax(y.dim() - 1), False),
    "another-reader": (lambda m, y: (z := y + m.c).softmax(2) + z, False),
}


@pytest.mark.parametrize("name", SOFTMAX)
def test_what_is_added_all_along_the_axis_is_gone(name: str) -> None:
    run, is_gone = SOFTMAX[name]
    layers: dict[str, Any] = {"a": nn.Conv2d(3, 4, 1), "c": torch.zeros(4, 1, 1)}
    model = ready(Model(lambda m, x: run(m, m.a(x).sigmoid()), op=nn.Softmax(1), **layers))
    fused, _ = checked(model, image())
    assert (not {"add", "sub", "mul"} & {*operations(fused)}) == is_gone
    assert operations(bnfuse.optimize(fused)) == operations(fused)


@pytest.mark.parametrize("dim", [-1, 0])
def test_a_vector_on_the_last_of_unknown_axes(dim: int) -> None:
    model = ready(Model(lambda m, x: (x.sigmoid() + m.c).softmax(dim), c=torch.zeros(4)))
    assert "add" in operations(checked(model, noise(3, 4))[0])
