"""The private operators do what their plain counterparts do, channels last."""

from __future__ import annotations

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


def test_linear_with_a_sum() -> None:
    x, weight, bias, other = drawn(2, 5, 8), drawn(4, 8), drawn(4), drawn(2, 5, 4, seed=1)
    packed = calls.packed_linear(weight, 10)
    assert (
        error(calls.linear_sum(x, packed, bias, other, "add"), F.linear(x, weight, bias) + other)
        < 1e-6
    )
