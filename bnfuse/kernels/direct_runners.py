"""What each fused layer is to oneDNN's own interface, for inputs of one shape.

Each maker returns None where no build of oneDNN is installed, or it has no kernel that is fast and
computes what PyTorch does.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.kernels import preparing
from bnfuse.kernels.channels_last import FORMATS, as_image, strides_of
from bnfuse.kernels.direct import Computation, Job, kernel_of
from bnfuse.kernels.prepared import Layout, Prepared, Problem
from bnfuse.kernels.runners import output_shape

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.kernels.library import Library
    from bnfuse.kernels.onednn_calls import Geometry
    from bnfuse.kernels.packed import Kernel


def convolution(job: Job, geometry: Geometry) -> Kernel | None:
    """Return what runs a convolution of any rank."""
    shape = output_shape(job.size, job.weight.shape, geometry)
    if shape is None:
        return None
    weight, (padding, stride, dilation, groups) = job.weight, geometry
    parts = weight.view(as_image(weight.shape))
    parts = parts if groups == 1 else parts.view(groups, -1, *parts.shape[1:])
    zero, of_images = (0,) * len(padding), geometry.of_images()

    def prepare(library: Library, problem: Problem) -> Prepared:
        return preparing.convolution(library, problem, of_images, job.formats)

    def alone(x: Tensor, bias: Tensor | None) -> Tensor:
        window = stride, padding, dilation, False, zero
        return torch.convolution(x, weight, bias, *window, groups)

    return kernel_of(job, _of_images(job.size, shape, parts, prepare, alone))


def transposed(
    job: Job, geometry: Geometry, output_padding: tuple[int, ...], shape: torch.Size
) -> Kernel | None:
    """Return what runs a transposed convolution of one group.

    Args:
        job: The layer.
        geometry: That of the convolution.
        output_padding: What its result is longer by, on each axis.
        shape: The shape of its result.
    """
    weight, (padding, stride, dilation, groups) = job.weight, geometry

    def prepare(library: Library, problem: Problem) -> Prepared:
        return preparing.transposed(library, problem, geometry, output_padding, job.formats)

    def alone(x: Tensor, bias: Tensor | None) -> Tensor:
        window = stride, padding, dilation, True, output_padding
        return torch.convolution(x, weight, bias, *window, groups)

    return kernel_of(job, _of_images(job.size, shape, weight.transpose(0, 1), prepare, alone))


def linear(job: Job) -> Kernel | None:
    """Return what runs a linear layer: the product of its rows and its weight."""
    weight, rows = job.weight, prod(job.size[:-1])
    channels, length = weight.shape
    source, result = (
        Layout((rows, length), (length, 1)),
        Layout((rows, channels), (channels, 1)),
    )

    def prepare(library: Library, problem: Problem) -> Prepared:
        return preparing.product(library, problem, job.formats)

    def alone(x: Tensor, bias: Tensor | None) -> Tensor:
        return F.linear(x, weight, bias)

    shape = torch.Size([*job.size[:-1], channels])
    contiguous = torch.contiguous_format
    return kernel_of(
        job, Computation(prepare, weight.t(), source, result, shape, contiguous, alone)
    )


def _of_images(
    size: torch.Size,
    shape: torch.Size,
    weight: Tensor,
    prepare: Callable[[Library, Problem], Prepared],
    alone: Callable[[Tensor, Tensor | None], Tensor],
) -> Computation:
    """Return a computation on images, laid out channels last; a signal is an image of one row."""
    laid_out = FORMATS[len(size)]
    images = map(as_image, (size, shape))
    source, result = (Layout(image, strides_of(image, laid_out)) for image in images)
    return Computation(prepare, weight, source, result, shape, laid_out, alone)
