"""Each fused layer, and which layers there are none for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bnfuse.kernels import Activation, can_fuse, release
from tests.kernels.support import conv, drawn, error, fused, has_packed, layer

pytestmark = pytest.mark.usefixtures("onednn_call")
RELU = Activation("relu")
CASES: dict[str, tuple[Any, tuple[int, ...]]] = {
    "plain": (conv(), (1, 8, 20, 20)),
    "no-bias": (conv(bias=False), (1, 8, 20, 20)),
    "depthwise": (conv(groups=8), (1, 8, 40, 40)),
    "strided-dilated": (conv(stride=2, dilation=2), (2, 8, 41, 40)),
    "same": (conv(padding="same", dilation=3), (1, 8, 20, 20)),
    "valid": (conv(padding="valid"), (1, 8, 20, 20)),
    "3d": (layer(nn.Conv3d, 4, 8, 3, padding=1), (1, 4, 9, 10, 11)),
    "transposed": (layer(nn.ConvTranspose2d, 8, 6, 4, 2, 1), (2, 8, 15, 14)),
    "transposed-odd": (layer(nn.ConvTranspose2d, 8, 6, 3, 2, 1, 1, dilation=2), (1, 8, 15, 14)),
    "linear": (layer(nn.Linear, 64, 96), (3, 40, 64)),
    "linear-rows": (layer(nn.Linear, 64, 96, bias=False), (40, 64)),
}

DIRECTLY = ("directly", "transposed")
"""The other transposed convolution is dilated: oneDNN has no fast kernel for it."""


@pytest.mark.parametrize("name", CASES)
def test_large_inputs_run_by_onednn(name: str, onednn_call: str) -> None:
    plain, shape = CASES[name]
    made, x = fused(plain, "", RELU), drawn(*shape)
    assert error(made(x), plain(x).relu()) < 1e-6
    by_pytorch = {"transposed", "transposed-odd"}  # which packs no weight of these
    assert has_packed(made) == (name not in by_pytorch or (onednn_call, name) == DIRECTLY)
    assert isinstance(made, type(plain))
    assert list(made.state_dict()) == list(plain.state_dict())


SMALL: dict[str, tuple[Any, tuple[int, ...]]] = {
    "pixel": (layer(nn.Conv2d, 64, 16, 1), (1, 64, 1, 1)),
    "padded-pixel": (layer(nn.Conv2d, 8, 8, 1, padding=1), (1, 8, 1, 1)),
    "tiny": (conv(groups=8), (1, 8, 4, 4)),
    "one-row": (layer(nn.Linear, 64, 96), (1, 64)),
    "tiny-transposed": (layer(nn.ConvTranspose2d, 2, 2, 2), (1, 2, 3, 3)),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_inputs_keep_plain_operators(name: str) -> None:
    plain, shape = SMALL[name]
    made, x = fused(plain, "", RELU), drawn(*shape)
    assert error(made(x), plain(x).relu()) < 1e-6
    assert not has_packed(made)


def test_measured_choice_goes_before_the_rule() -> None:
    made, x = fused(conv(), "", RELU), drawn(1, 8, 20, 20)
    made.choices = {tuple(x.shape): False}
    assert error(made(x), conv()(x).relu()) < 1e-6
    assert not has_packed(made)


ODD: dict[str, tuple[Any, tuple[int, ...]]] = {
    "no-batch": (conv(), (8, 20, 20)),
    "empty-batch": (conv(), (0, 8, 20, 20)),
    "vector": (layer(nn.Linear, 64, 512), (64,)),
    "no-rows": (layer(nn.Linear, 64, 512), (0, 64)),
    "transposed-no-batch": (layer(nn.ConvTranspose2d, 8, 6, 4, 2, 1), (8, 15, 14)),
    "transposed-groups": (layer(nn.ConvTranspose2d, 8, 8, 4, 2, 1, groups=8), (1, 8, 15, 14)),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_inputs_are_left_to_plain_operators(name: str) -> None:
    plain, shape = ODD[name]
    x = drawn(*shape)
    assert torch.equal(fused(plain, "", RELU)(x), plain(x).relu())


@pytest.mark.parametrize("shape", [(1, 7, 20, 20), (1, 8, 20), (1, 8, 1, 1, 1)])
def test_errors_are_those_of_the_operator(shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError) as wanted:
        conv(padding=0)(drawn(*shape))
    with pytest.raises(RuntimeError) as got:
        fused(conv(padding=0))(drawn(*shape))
    assert str(got.value) == str(wanted.value)


class Subclass(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    "module",
    [
        nn.Conv1d(1, 1, 1),
        Subclass(1, 1, 1),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(1, 1, 2, padding="same"),
        nn.ReLU(),
    ],
    ids=["1d", "subclass", "reflect", "uneven", "relu"],
)
def test_no_fused_layer(module: nn.Module) -> None:
    assert not can_fuse(module)


def test_hooks_come_along() -> None:
    plain = conv()
    plain.register_forward_hook(lambda module, args, output: output + 1)
    made = fused(plain)
    x = drawn(1, 8, 20, 20)
    assert error(made(x), plain(x)) < 1e-6


def test_release() -> None:
    made, x = fused(conv()), drawn(1, 8, 20, 20)
    before = made(x)
    release(nn.Sequential(made, nn.ReLU()))
    assert not has_packed(made)
    assert torch.equal(made(x), before)
