"""An affine moved through operations that repeat a value whole."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

from tests.moves.support import Model, before, behind, checked, image, operations, settled
from tests.support import ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[Any, Tensor], Any]


def wide(y: Tensor) -> Tensor:
    """Return the mean over the image, as large as the image again."""
    return y.mean((2, 3), keepdim=True).expand(-1, -1, 6, 6)


BOTH: dict[str, tuple[Run, int]] = {
    "expand": (lambda m, y: wide(y), 4),
    "expand-by-numbers": (lambda m, y: y.mean((2, 3), True).expand((2, 4, 6, 6)), 4),
    "new-axis": (lambda m, y: y.expand(3, -1, -1, -1, -1).flatten(0, 1), 4),
    "repeat-rows": (lambda m, y: y.repeat(1, 1, 2, 3), 4),
    "repeat-in-front": (lambda m, y: y.repeat(2, 1, 1, 1, 1).flatten(0, 1), 4),
}
ONLY_DOWN: dict[str, tuple[Run, int]] = {
    "repeat-channels": (lambda m, y: y.repeat(1, 2, 1, 1), 8),
}
NONE: dict[str, tuple[Run, int]] = {
    "expand-by-sizes": (lambda m, y: y.expand(y.shape), 4),
    "repeat-by-a-size": (lambda m, y: y.repeat(1, y.size(0), 1, 1), 8),
}


@pytest.mark.parametrize("name", [*BOTH, *ONLY_DOWN, *NONE])
def test_up(name: str) -> None:
    run, channels = {**BOTH, **ONLY_DOWN, **NONE}[name]
    assert settled(behind(run, channels), image()) == (name in BOTH)


@pytest.mark.parametrize("name", [*BOTH, *ONLY_DOWN, *NONE])
def test_down(name: str) -> None:
    run, channels = {**BOTH, **ONLY_DOWN, **NONE}[name]
    assert settled(before(run, channels), image(4)) == (name not in NONE)


def test_copies_with_the_same_affine() -> None:
    model = behind(lambda m, y: y.repeat(1, 2, 1, 1), 8)
    for tensor in (*model.norm.parameters(), *model.norm.buffers()):
        if tensor.ndim:
            tensor.data[4:] = tensor.data[:4]
    assert settled(model, image()) == 1


def test_one_channel_that_becomes_several() -> None:
    """An affine of each copy has no place in what is copied."""
    model = ready(
        Model(
            lambda m, x: m.norm(m.a(x).expand(-1, 4, -1, -1)),
            a=nn.Conv2d(3, 1, 1),
            norm=nn.BatchNorm2d(4),
        )
    )
    assert settled(model, image()) == 0


def test_a_number_needs_no_sizes() -> None:
    model = ready(Model(lambda m, x: m.a(x).repeat(1, 2, 1, 1) * 2 + 1, a=nn.Conv2d(3, 4, 1)))
    assert not {"add", "mul"} & {*operations(checked(model, image())[0])}
