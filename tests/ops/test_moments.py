"""Moments of what a layer reads, against all that its weights meet, one by one."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.affine.feedback import Moments
from bnfuse.ops.calls import read_call
from bnfuse.ops.moments import MOST_CASES, moments_of
from tests.regions.support import traced
from tests.support import noise


def found(layer: nn.Module, value: Tensor) -> Moments | None:
    program, _ = traced(nn.Sequential(layer.double()))
    node = next(node for node in program.graph.nodes if node.op == "call_module")
    call = read_call(program, node)
    assert call is not None
    return moments_of(call, value)


OPTIONS: list[dict[str, Any]] = [
    {},
    {"padding": 1},
    {"padding": 2, "stride": 2, "dilation": 2},
    {"padding": (2, 0), "stride": (1, 3), "groups": 2},
    {"groups": 4, "padding": 1, "padding_mode": "reflect"},
    {"padding": "same"},
]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
def test_each_tap_has_the_mean_of_what_it_meets(options: dict[str, Any]) -> None:
    layer, value = nn.Conv2d(4, 4, 3, **options), noise(2, 4, 9, 8)
    made = found(layer, value)
    assert made is not None
    pads = [p for p in reversed(layer._reversed_padding_repeated_twice[::2]) for _ in "ab"]
    mode = "constant" if layer.padding_mode == "zeros" else layer.padding_mode
    padded = F.pad(value, pads[::-1] if layer.padding == (2, 0) else pads, mode=mode)
    windows = F.unfold(padded, 3, dilation=layer.dilation, stride=layer.stride)
    wanted = windows.mean(2).reshape(2, layer.groups, -1).transpose(0, 1)
    assert torch.allclose(made.mean, wanted)
    variance = value.transpose(0, 1).flatten(1).var(1, correction=0)
    assert torch.allclose(made.variance.reshape(4, 9), variance[:, None].expand(4, 9))


def test_other_numbers_of_axes() -> None:
    for layer, value in (
        (nn.Conv1d(2, 3, 2), noise(1, 2, 5)),
        (nn.Conv3d(2, 3, 1), noise(1, 2, 3, 3, 3)),
    ):
        made = found(layer, value)
        assert made is not None
        assert torch.isfinite(made.mean).all()
        assert made.mean.shape == (1, 1, layer.weight[0].numel())


def test_a_linear_layer_meets_the_last_axis() -> None:
    value = noise(2, 5, 3)
    made = found(nn.Linear(3, 4), value)
    assert made is not None
    assert torch.allclose(made.mean, value.mean(1)[None])
    assert torch.allclose(made.variance[0], value.flatten(0, 1).var(0, correction=0))
    alone = found(nn.Linear(3, 4), noise(3))
    assert alone is not None
    assert torch.equal(alone.mean[0, 0], noise(3))


def test_a_large_batch_is_a_few_cases() -> None:
    made = found(nn.Linear(3, 4), noise(50, 3))
    assert made is not None
    assert 1 < made.mean.shape[1] <= MOST_CASES


@pytest.mark.parametrize(
    ("layer", "value"),
    [
        (nn.ConvTranspose2d(4, 3, 2), noise(1, 4, 5, 5)),
        (nn.Conv2d(4, 3, 2), noise(4, 5, 5)),
        (nn.BatchNorm2d(4).eval(), noise(1, 4, 5, 5)),
    ],
    ids=["transposed", "without a batch", "no weight to absorb"],
)
def test_others_have_none(layer: nn.Module, value: Tensor) -> None:
    assert found(layer, value) is None
