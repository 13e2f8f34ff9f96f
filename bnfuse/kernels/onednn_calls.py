"""The calls of PyTorch's private oneDNN operators, each in one place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    Post = tuple[str, list[float], str]
    """An activation as oneDNN takes it: its name, its numbers, its algorithm."""

OPERATORS: Any = torch.ops.mkldnn
"""The operators themselves; see ``bnfuse.kernels.probe`` for when they can be used."""


class Geometry(NamedTuple):
    """How a kernel moves over an image.

    Attributes:
        padding: Zeros on both sides of each spatial axis.
        stride: Its steps on each axis.
        dilation: The distance of its taps on each axis.
        groups: Into how many parts the channels fall.
    """

    padding: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int

    @property
    def is_usual(self) -> bool:
        """Whether it is one that PyTorch takes: no step back, no step of none."""
        return min(self.padding) >= 0 and min(*self.stride, *self.dilation, self.groups) > 0

    def of_images(self) -> Geometry:
        """Return that of the same kernel for images of one row, where it is one for signals."""
        if len(self.stride) > 1:
            return self
        padding, stride, dilation, groups = self
        return Geometry((0, *padding), (1, *stride), (1, *dilation), groups)


def packed_convolution(
    weight: Tensor, geometry: Geometry, size: Sequence[int] | None = None
) -> Tensor:
    """Return the weight of a convolution in the blocked format that its kernel reads.

    Args:
        weight: The weight, ``(out, in / groups, *kernel)``.
        geometry: That of the convolution.
        size: The shape of an input, if one is known; the result serves any other as well.
    """
    packed: Tensor = OPERATORS._reorder_convolution_weight(
        weight, geometry.padding, geometry.stride, geometry.dilation, geometry.groups, size
    )
    return packed


def packed_linear(weight: Tensor, rows: int) -> Tensor:
    """Return the weight of a linear layer in the blocked format that its kernel reads.

    Args:
        weight: The weight, ``(out, in)``.
        rows: How many rows an input has; the result serves any other as well.
    """
    packed: Tensor = OPERATORS._reorder_linear_weight(weight, rows)
    return packed


def convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, post: Post
) -> Tensor:
    """Return ``post(conv(x))``, channels last."""
    result: Tensor = OPERATORS._convolution_pointwise.default(x, weight, bias, *geometry, *post)
    return result


def convolution_of_signals(
    x: Tensor, weight: Tensor, bias: Tensor | None, *geometry_and_post: Any
) -> Tensor:
    """Return the same of a signal, as an image of one row; weight and geometry are for images."""
    y: Tensor = OPERATORS._convolution_pointwise.default(
        x.unsqueeze(2), weight, bias, *geometry_and_post
    )
    return _row(y)


def convolution_sum(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    other: Tensor,
    binary: str,
    post: str | None,
) -> Tensor:
    """Return ``post(conv(x) + other)``, or the product, channels last.

    Args:
        x: The input.
        weight: The packed weight.
        bias: The bias, if there is one.
        geometry: That of the convolution.
        other: The other operand, of the shape of the result.
        binary: ``"add"`` or ``"mul"``.
        post: ``"relu"``, or None for no activation.
    """
    if x.ndim == 3:  # a signal: weight and geometry are for images of one row
        image, row = x.unsqueeze(2), other.unsqueeze(2)
        y = convolution_sum(image, weight, bias, geometry, row, binary, post)
        return _row(y)
    result: Tensor = OPERATORS._convolution_pointwise.binary(
        x, other, weight, bias, *geometry, binary, None, post, [], None
    )
    return result


def _row(image: Tensor) -> Tensor:
    """Return an image of one row as a signal; one of one channel or one sample is contiguous."""
    batch, channels, _, length = image.shape
    return (
        image.squeeze(2)
        if min(channels, length) > 1
        else image.flatten().view(batch, channels, length)
    )


def transposed(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    output_padding: tuple[int, ...],
    post: Post,
) -> Tensor:
    """Return ``post(transposed conv(x))``; the weight is plain, ``(in, out / groups, *kernel)``."""
    padding, stride, dilation, groups = geometry
    result: Tensor = OPERATORS._convolution_transpose_pointwise.default(
        x, weight, bias, padding, output_padding, stride, dilation, groups, *post
    )
    return result


def linear(x: Tensor, weight: Tensor, bias: Tensor | None, post: Post) -> Tensor:
    """Return ``post(x W' + b)``."""
    result: Tensor = OPERATORS._linear_pointwise.default(x, weight, bias, *post)
    return result


def linear_sum(
    x: Tensor, weight: Tensor, bias: Tensor | None, other: Tensor, binary: str
) -> Tensor:
    """Return ``x W' + b + other``, or the product."""
    result: Tensor = OPERATORS._linear_pointwise.binary(x, other, weight, bias, binary)
    return result
