"""An affine moved through operations that pick elements along axes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from tests.moves.support import Model, before, behind, image, operations, settled
from tests.support import ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[Any, Tensor], Any]

INDEX = torch.tensor([3, 0, 1])
TWICE = torch.tensor([3, 0, 1, 3])
# What is done to 4 channels, and how many there are then.
BOTH: dict[str, tuple[Run, int]] = {
    "flip": (lambda m, y: y.flip(1, -1), 4),
    "torch-flip": (lambda m, y: torch.flip(y, dims=(1,)), 4),
    "channel-shuffle": (lambda m, y: F.channel_shuffle(y, 2), 4),
    "roll": (lambda m, y: y.roll(1, 1), 4),
    "roll-back": (lambda m, y: torch.roll(y, (-3, 2), (1, 2)), 4),
    "roll-by-name": (lambda m, y: torch.roll(y, shifts=5, dims=-3), 4),
    "narrow": (lambda m, y: y.narrow(1, 1, 2), 2),
    "narrow-from-the-back": (lambda m, y: torch.narrow(y, -3, -2, 2), 2),
    "narrow-another-axis": (lambda m, y: y.narrow(2, 1, 3), 4),
    "index": (lambda m, y: y.index_select(1, m.index), 3),
    "torch-index": (lambda m, y: torch.index_select(y, 1, m.index), 3),
    "index-of-rows": (lambda m, y: torch.index_select(y, 2, m.index), 4),
    "repetition-of-rows": (lambda m, y: y.repeat_interleave(2, 2), 4),
    "aten-slice": (lambda m, y: torch.ops.aten.slice.Tensor(y, 1, 0, 9223372036854775807, 2), 2),
}
ONLY_DOWN: dict[str, tuple[Run, int]] = {
    "repetition": (lambda m, y: y.repeat_interleave(2, dim=1), 8),
    "index-twice": (lambda m, y: y.index_select(1, m.twice), 4),
}
NONE: dict[str, tuple[Run, int]] = {
    "roll-of-all": (lambda m, y: y.roll(1), 4),
    "roll-by-a-size": (lambda m, y: y.roll(y.size(0), 1), 4),
    "roll-of-an-axis-computed": (lambda m, y: y.roll(1, y.dim() - 3), 4),
    "narrow-by-a-size": (lambda m, y: y.narrow(1, 0, y.size(1)), 4),
    "index-computed": (lambda m, y: y.index_select(1, m.index.flip(0) + y.size(0) * 0), 3),
    "repetitions-computed": (lambda m, y: y.repeat_interleave(y.size(0), 1), 8),
    "axis-computed": (lambda m, y: y.narrow(y.dim() - 3, 0, 2), 2),
}
LAYERS = {"index": INDEX, "twice": TWICE}


@pytest.mark.parametrize("name", [*BOTH, *ONLY_DOWN, *NONE])
def test_up(name: str) -> None:
    run, channels = {**BOTH, **ONLY_DOWN, **NONE}[name]
    assert settled(behind(run, channels, **LAYERS), image()) == (name in BOTH)


@pytest.mark.parametrize("name", [*BOTH, *ONLY_DOWN, *NONE])
def test_down(name: str) -> None:
    run, channels = {**BOTH, **ONLY_DOWN, **NONE}[name]
    assert settled(before(run, channels, **LAYERS), image(4)) == (name not in NONE)


@pytest.mark.parametrize("is_same", [True, False])
def test_an_element_that_is_picked_twice_takes_one_affine(is_same: bool) -> None:
    model = behind(lambda m, y: y.index_select(1, m.twice), 4, **LAYERS)
    for tensor in (*model.norm.parameters(), *model.norm.buffers()):
        if tensor.ndim and is_same:
            tensor.data[3] = tensor.data[0]
    assert settled(model, image()) == is_same


def test_an_index_that_the_forward_writes() -> None:
    def run(m: Any, y: Tensor) -> Tensor:
        m.index.copy_(m.index.flip(0))
        return y.index_select(1, m.index)

    model = behind(run, 3, index=INDEX.clone())
    assert "norm" in operations(bnfuse.optimize(model))


def test_a_value_that_a_constant_makes_larger() -> None:
    """One channel becomes four in the product; the convolution has one."""
    model = Model(
        lambda m, x: m.a(x).narrow(1, 0, 1) * m.c, a=nn.Conv2d(3, 1, 1), c=torch.zeros(4, 1, 1)
    )
    settled(ready(model), image())
