"""The private operators do what their plain counterparts do, channels last."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.kernels import onednn_calls as calls
from tests.kernels.support import drawn, error

GEOMETRY = calls.Geometry((2, 1), (2, 1), (1, 2), 2)


def test_convolution_takes_its_geometry_by_axis() -> None:
    x, weight = drawn(2, 8, 11, 9), drawn(6, 4, 3, 3)
    packed = calls.packed_convolution(weight, GEOMETRY)
    got = calls.convolution(x, packed, None, GEOMETRY, ("none", [], ""))
    assert error(got, F.conv2d(x, weight, None, (2, 1), (2, 1), (1, 2), 2)) < 1e-6
    assert got.is_contiguous(memory_format=torch.channels_last)


def test_packed_weight_serves_other_shapes() -> None:
    weight, geometry = drawn(6, 8, 1, 1), calls.Geometry((0, 0), (1, 1), (1, 1), 1)
    packed = calls.packed_convolution(weight, geometry, (1, 8, 14, 14))
    for shape in ((3, 8, 5, 7), (1, 8, 1, 1)):
        x = drawn(*shape)
        got = calls.convolution(x, packed, None, geometry, ("none", [], ""))
        assert error(got, F.conv2d(x, weight)) < 1e-6


def test_signals_are_images_of_one_row() -> None:
    x, weight, bias = drawn(2, 8, 31), drawn(16, 4, 3), drawn(16)
    signals = calls.Geometry((5,), (2,), (3,), 2)
    images = signals.of_images()
    assert images == calls.Geometry((0, 5), (1, 2), (1, 3), 2)
    assert images.of_images() is images
    packed = calls.packed_convolution(weight.unsqueeze(2), images)
    got = calls.convolution_of_signals(x, packed, bias, *images, "none", [], "")
    wanted = F.conv1d(x, weight, bias, 2, 5, 3, 2)
    assert error(got, wanted) < 1e-6
    assert got.transpose(1, 2).is_contiguous()


@pytest.mark.parametrize("binary", ["add", "mul"])
def test_a_sum_of_signals(binary: str) -> None:
    x, weight, other = drawn(2, 8, 31), drawn(16, 8, 3), drawn(2, 16, 29, seed=1)
    geometry = calls.Geometry((0, 0), (1, 1), (1, 1), 1)
    packed = calls.packed_convolution(weight.unsqueeze(2), geometry)
    wanted = F.conv1d(x, weight)
    wanted = (wanted + other if binary == "add" else wanted * other).relu()
    for second in (other, other.transpose(1, 2).contiguous().transpose(1, 2)):
        got = calls.convolution_sum(x, packed, None, geometry, second, binary, "relu")
        assert error(got, wanted) < 1e-6


def test_linear_with_a_sum() -> None:
    x, weight, bias, other = drawn(2, 5, 8), drawn(4, 8), drawn(4), drawn(2, 5, 4, seed=1)
    packed = calls.packed_linear(weight, 10)
    assert (
        error(calls.linear_sum(x, packed, bias, other, "add"), F.linear(x, weight, bias) + other)
        < 1e-6
    )
