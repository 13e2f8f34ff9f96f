"""An affine moved through operations that turn channels into places of an image, or back."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from tests.moves.support import Model, before, behind, folded, image, operations, settled, unshifted
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[Any, Tensor], Any]


def test_pixel_shuffle_up() -> None:
    assert settled(behind(lambda m, y: F.pixel_shuffle(y, 2), 1), image()) == 1


def test_pixel_unshuffle_down() -> None:
    assert settled(before(lambda m, y: m.op(y), 16, op=nn.PixelUnshuffle(2)), image(4)) == 1


def test_pixel_shuffle_down_needs_equal_blocks() -> None:
    def model_with(gamma: list[float]) -> Model:
        model = ready(
            Model(
                lambda m, x: m.head(F.pixel_shuffle(m.norm(x), 2)),
                norm=nn.BatchNorm2d(8, eps=1e-300),
                head=nn.Conv2d(2, 3, 1),
            )
        )
        for name, number in [("bias", 0.0), ("running_mean", 0.0), ("running_var", 1.0)]:
            getattr(model.norm, name).data.fill_(number)
        model.norm.weight.data.copy_(torch.tensor(gamma))
        return model

    assert folded(model_with([2.0] * 4 + [-3.0] * 4), noise(1, 8, 3, 3)) == 1
    assert folded(model_with([2.0, -3.0] * 4), noise(1, 8, 3, 3)) == 0


def test_pixel_unshuffle_up_needs_equal_blocks() -> None:
    model = behind(lambda m, y: F.pixel_unshuffle(y, 2), 16)
    assert settled(model, image()) == 0
    for tensor in (*model.norm.parameters(), *model.norm.buffers()):
        if tensor.ndim:
            tensor.data.copy_(tensor.data[::4].repeat_interleave(4))
    assert settled(model, image()) == 1


@pytest.mark.parametrize("is_up", [True, False])
@pytest.mark.parametrize("name", ["pixel_shuffle", "pixel_unshuffle"])
def test_places_of_their_own_stay(name: str, is_up: bool) -> None:
    """A constant for each place of the image would have to be shuffled with the places."""
    run = getattr(F, name)
    channels, size = (1, 12) if name == "pixel_shuffle" else (16, 3)
    c = torch.zeros(1, 1, size, size) if is_up else torch.zeros(1, 1, 6, 6)
    layers: dict[str, Any] = {"a": nn.Conv2d(3, 4, 1), "head": nn.Conv2d(channels, 2, 1), "c": c}
    forward: Run = (
        (lambda m, x: run(m.a(x), 2) + m.c)
        if is_up
        else (lambda m, x: m.head(run(m.a(x).sigmoid() + m.c, 2)))
    )
    fused = settled(ready(Model(forward, **layers)), image())
    assert fused == 0


def unfolded(**options: Any) -> Run:
    return lambda m, y: F.unfold(y, (2, 3), **options)


def through_unfold(options: dict[str, Any], *, is_up: bool) -> Model:
    """Return a norm beside ``unfold``, with 4 channels and 6 elements for each window."""
    run = unfolded(**options)
    if is_up:
        return ready(
            Model(
                lambda m, x: m.norm(run(m, m.a(x))), a=nn.Conv2d(3, 4, 1), norm=nn.BatchNorm1d(24)
            )
        )
    return ready(
        Model(
            lambda m, x: m.head(run(m, m.norm(x))), norm=nn.BatchNorm2d(4), head=nn.Conv1d(24, 2, 1)
        )
    )


@pytest.mark.parametrize(
    ("options", "takes"), [({}, 1), ({"stride": 2}, 1), ({"dilation": 2}, 1), ({"padding": 1}, 0)]
)
def test_unfold_down(options: dict[str, Any], takes: int) -> None:
    model = through_unfold(options, is_up=False)
    assert settled(model, image(4)) == takes
    assert settled(unshifted(model), image(4)) == 1


@pytest.mark.parametrize(("options", "takes"), [({}, 1), ({"padding": (0, 1)}, 0)])
def test_unfold_up_needs_equal_blocks(options: dict[str, Any], takes: int) -> None:
    model = through_unfold(options, is_up=True)
    assert settled(model, image()) == 0
    for tensor in (*model.norm.parameters(), *model.norm.buffers()):
        if tensor.ndim:
            tensor.data.copy_(tensor.data[::6].repeat_interleave(6))
    assert settled(model, image()) == takes


@pytest.mark.parametrize(("padding", "takes"), [(0, True), (1, False)])
def test_a_number_is_not_added_to_padded_zeros(padding: int, takes: bool) -> None:
    run = unfolded(padding=padding)
    model = ready(Model(lambda m, x: run(m, m.a(x)) + 2, a=nn.Conv2d(3, 4, 1)))
    fused = bnfuse.optimize(model)
    settled(model, image())
    assert ("add" not in operations(fused)) == takes
