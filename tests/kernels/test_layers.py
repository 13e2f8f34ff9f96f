"""Each fused layer, and which layers there are none for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

from bnfuse.kernels import Activation, can_fuse, release
from tests.kernels.support import Case, conv, conv1d, drawn, error, fused, has_packed, layer

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
    "1d": (conv1d(), (1, 8, 400)),
    "1d-no-bias": (conv1d(bias=False), (1, 8, 400)),
    "1d-depthwise": (layer(nn.Conv1d, 16, 16, 25, padding=12, groups=16), (1, 16, 400)),
    "1d-strided-dilated": (conv1d(stride=2, dilation=2), (2, 8, 801)),
    "1d-same": (conv1d(padding="same", dilation=3), (1, 8, 400)),
    "1d-valid": (conv1d(padding="valid"), (1, 8, 400)),
    "1d-padded-beyond": (conv1d(padding=7), (1, 8, 400)),
    "1d-one-channel": (layer(nn.Conv1d, 1, 8, 80, 4), (2, 1, 1600)),
    "1d-to-one-channel": (layer(nn.Conv1d, 64, 1, 3), (2, 64, 400)),
    "1d-to-one-sample": (layer(nn.Conv1d, 8, 64, 64), (8, 8, 64)),
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
    "1d-sample": (layer(nn.Conv1d, 64, 16, 1), (1, 64, 1)),
    "1d-tiny": (conv1d(groups=8), (1, 8, 16)),
    "one-row": (layer(nn.Linear, 64, 96), (1, 64)),
    "tiny-transposed": (layer(nn.ConvTranspose2d, 2, 2, 2), (1, 2, 3, 3)),
}


@pytest.mark.parametrize("name", SMALL)
def test_small_inputs_keep_plain_operators(name: str) -> None:
    plain, shape = SMALL[name]
    made, x = fused(plain, "", RELU), drawn(*shape)
    assert error(made(x), plain(x).relu()) < 1e-6
    assert not has_packed(made)


def test_measured_choice_goes_before_the_rule(case: Case) -> None:
    made, x = fused(case.conv(), "", RELU), case.x
    made.choices = {tuple(x.shape): False}
    assert error(made(x), case.conv()(x).relu()) < 1e-6
    assert not has_packed(made)


ODD: dict[str, tuple[Any, tuple[int, ...]]] = {
    "no-batch": (conv(), (8, 20, 20)),
    "empty-batch": (conv(), (0, 8, 20, 20)),
    "1d-no-batch": (conv1d(), (8, 400)),
    "1d-empty-batch": (conv1d(), (0, 8, 400)),
    "1d-no-channels": (layer(nn.Conv1d, 8, 8, 1, groups=8), (0, 8, 1)),
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


WRONG = [
    (conv(padding=0), (1, 7, 20, 20)),
    (conv(padding=0), (1, 8, 20)),
    (conv(padding=0), (1, 8, 1, 1, 1)),
    (conv1d(padding=0), (1, 7, 400)),
    (conv1d(padding=0), (7, 400)),
    (conv1d(padding=0), (1, 8, 2)),
    (conv1d(padding=0), (1, 8, 20, 20)),
    (conv1d(padding=0), (1, 8, 0)),
]


@pytest.mark.parametrize(("plain", "shape"), WRONG)
def test_errors_are_those_of_the_operator(plain: Any, shape: tuple[int, ...]) -> None:
    with pytest.raises(RuntimeError) as wanted:
        plain(drawn(*shape))
    with pytest.raises(RuntimeError) as got:
        fused(plain)(drawn(*shape))
    assert str(got.value) == str(wanted.value)


class Subclass(nn.Conv2d):
    pass


@pytest.mark.parametrize(
    "module",
    [
        nn.ConvTranspose1d(1, 1, 1),
        Subclass(1, 1, 1),
        nn.Conv1d(1, 1, 3, padding=1, padding_mode="circular"),
        nn.Conv1d(1, 1, 2, padding="same"),
        nn.Conv2d(1, 1, 3, padding=1, padding_mode="reflect"),
        nn.Conv2d(1, 1, 2, padding="same"),
        nn.ReLU(),
    ],
    ids=["1d", "subclass", "1d-circular", "1d-uneven", "reflect", "uneven", "relu"],
)
def test_no_fused_layer(module: nn.Module) -> None:
    assert not can_fuse(module)


def test_hooks_come_along(case: Case) -> None:
    plain = case.conv()
    plain.register_forward_hook(lambda module, args, output: output + 1)
    assert error(fused(plain)(case.x), plain(case.x)) < 1e-6


def test_release(case: Case) -> None:
    made, x = fused(case.conv()), case.x
    before = made(x)
    release(nn.Sequential(made, nn.ReLU()))
    assert not has_packed(made)
    assert torch.equal(made(x), before)


def test_signals_that_are_not_worth_their_copies_keep_plain_operators() -> None:
    x = drawn(1, 64, 1000)
    for taps, is_contiguous, is_packed in ((3, True, False), (3, False, True), (15, True, True)):
        plain = layer(nn.Conv1d, 64, 64, taps, padding=taps // 2)
        made = fused(plain, "", RELU)
        made.returns_contiguous = is_contiguous
        assert error(made(x), plain(x).relu()) < 2e-6
        assert has_packed(made) == is_packed
        assert made(x).is_contiguous() == is_contiguous


def test_signals_that_lie_otherwise_are_copied_as_well() -> None:
    plain, x = layer(nn.Conv1d, 64, 64, 3, padding=1), drawn(1, 64, 1002)[:, :, 1:-1]
    made = fused(plain, "", RELU)
    made.returns_contiguous = True
    assert error(made(x), plain(x).relu()) < 2e-6
    assert not has_packed(made)


def test_signals_that_come_channels_last_are_not_copied_first() -> None:
    plain, x = layer(nn.Conv1d, 64, 64, 3, padding=1), drawn(1, 1000, 64).transpose(1, 2)
    made = fused(plain, "", RELU)
    made.returns_contiguous = True
    assert error(made(x), plain(x).relu()) < 1e-6
    assert has_packed(made)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("1d")])
def test_contiguous_signals_have_the_strides_of_the_operators(name: str) -> None:
    plain, shape = CASES[name]
    made, x = fused(plain, "", RELU), drawn(*shape)
    made.returns_contiguous = True
    made.choices = {shape: True}
    assert error(made(x), plain(x).relu()) < 1e-6
    assert made(x).stride() == plain(x).stride()


def test_a_layer_with_another_kind_of_weight_is_left() -> None:
    layer = nn.Linear(3, 4)
    layer.weight = nn.Parameter(torch.ones(3))
    assert not can_fuse(layer)
