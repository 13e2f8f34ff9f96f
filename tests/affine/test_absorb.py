"""Absorption into weights, against the operation followed by the affine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.affine import Affine, absorb_into_rows, absorb_into_transposed
from tests.support import noise, relative_error

if TYPE_CHECKING:
    from torch import Tensor

CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def after(affine: Affine, value: Tensor) -> Tensor:
    """Apply an affine on axis 1."""
    shape = (1, -1, *[1] * (value.ndim - 2))
    return affine.scale.view(shape) * value + affine.shift.view(shape)


def affine_of(channels: int) -> Affine:
    """A scale of both signs with a zero in it, and a shift."""
    scale = noise(channels, seed=8)
    scale[0] = 0.0
    return Affine(scale, noise(channels, seed=9))


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2}, {"padding": 1}, {"dilation": 2}, {"padding": "same"}],
    ids=lambda o: "-".join(map(str, o)) or "plain",
)
def test_convolution(dims: int, groups: int, has_bias: bool, options: dict[str, Any]) -> None:
    x, weight = noise(2, 4, *[6] * dims), noise(8, 4 // groups, *[3] * dims, seed=2)
    bias = noise(8, seed=3) if has_bias else None
    affine, conv = affine_of(8), CONVOLUTIONS[dims]
    wanted = after(affine, conv(x, weight, bias, groups=groups, **options))
    new_weight, new_bias = absorb_into_rows(weight, bias, affine)
    assert new_weight.shape == weight.shape
    got = conv(x, new_weight, new_bias, groups=groups, **options)
    assert relative_error(got, wanted) < 1e-13


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("groups", [1, 2, 4])
@pytest.mark.parametrize("outputs_per_group", [1, 3, 4])
@pytest.mark.parametrize("has_bias", [True, False])
@pytest.mark.parametrize(
    "options",
    [{}, {"stride": 2}, {"padding": 1}, {"stride": 3, "output_padding": 2}],
    ids=lambda o: "-".join(map(str, o)) or "plain",
)
def test_transposed_convolution_in_any_groups(
    dims: int, groups: int, outputs_per_group: int, has_bias: bool, options: dict[str, Any]
) -> None:
    """pytorch#180995: grouped weights were scaled as if they had one group."""
    outputs = groups * outputs_per_group
    x, weight = noise(2, 4, *[3] * dims), noise(4, outputs_per_group, *[2] * dims, seed=2)
    bias = noise(outputs, seed=3) if has_bias else None
    affine, conv = affine_of(outputs), TRANSPOSED[dims]
    wanted = after(affine, conv(x, weight, bias, groups=groups, **options))
    new_weight, new_bias = absorb_into_transposed(weight, bias, affine, groups)
    assert new_weight.shape == weight.shape
    got = conv(x, new_weight, new_bias, groups=groups, **options)
    assert relative_error(got, wanted) < 1e-13


@pytest.mark.parametrize("has_bias", [True, False])
def test_linear(has_bias: bool) -> None:
    x, weight, affine = noise(3, 5), noise(4, 5, seed=2), affine_of(4)
    bias = noise(4, seed=3) if has_bias else None
    new_weight, new_bias = absorb_into_rows(weight, bias, affine)
    wanted = after(affine, F.linear(x, weight, bias))
    assert relative_error(F.linear(x, new_weight, new_bias), wanted) < 1e-13


def test_the_bias_is_scaled_too() -> None:
    """What implementations forget: ``b' = s b + t``, not ``b + t`` (ultralytics/yolov3#807)."""
    affine = Affine(noise(4, seed=8), noise(4, seed=9))
    _, bias = absorb_into_rows(noise(4, 5), noise(4, seed=3), affine)
    assert relative_error(bias, affine.scale * noise(4, seed=3) + affine.shift) == 0.0
