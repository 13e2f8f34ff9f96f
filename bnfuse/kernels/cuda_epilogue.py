"""Runs a layer on a GPU without its bias, then one kernel for all the rest.

PyTorch's convolutions on CUDA add the bias in a kernel of their own, and each further operator is
one more, which reads and writes the whole result::

    conv, + b, + r, silu      4 kernels
    conv, (+ b + r, silu)     2 kernels

A linear layer adds its bias itself, so there it is done only for a sum with an activation behind.
Where a bias is all there is, it is done for results that take longer than the launch, and in CUDA
graphs. On an H200 (``benchmarks/gpu.py --only endings``), in float16 and channels last, a
convolution with a kernel in the place of two or three operators took 43 to 73% of the time in a
graph and 71 to 81% of the host's, with one in the place of the bias alone 73% and 108%.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.kernels import triton_probe
from bnfuse.kernels.cuda_ending import Ending

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.kernels.epilogue import Epilogue
    from bnfuse.kernels.onednn_calls import Geometry
    from bnfuse.kernels.packed import Kernel, Packed


def convolution(
    packed: Packed, x: Tensor, bias: Tensor | None, geometry: Geometry, epilogue: Epilogue
) -> Kernel | None:
    """Return what runs a convolution without its bias, then one kernel; None if that is no gain."""
    weight = packed.weight.detach()
    padding, stride, dilation, groups = geometry
    conv = {3: F.conv1d, 4: F.conv2d, 5: F.conv3d}[x.ndim]

    def alone(x: Tensor, bias: Tensor | None) -> Tensor:
        return conv(x, weight, bias, stride, padding, dilation, groups)

    return product(alone, x, bias, weight.shape[0], epilogue)


def transposed(
    packed: Packed,
    x: Tensor,
    bias: Tensor | None,
    geometry: Geometry,
    output_padding: tuple[int, ...],
    epilogue: Epilogue,
) -> Kernel | None:
    """Return the same for a transposed 2-d convolution."""
    weight = packed.weight.detach()
    padding, stride, dilation, groups = geometry

    def alone(x: Tensor, bias: Tensor | None) -> Tensor:
        return F.conv_transpose2d(
            x, weight, bias, stride, padding, output_padding, groups, dilation
        )

    return product(alone, x, bias, weight.shape[1] * groups, epilogue)


def product(
    alone: Callable[[Tensor, Tensor | None], Tensor],
    x: Tensor,
    bias: Tensor | None,
    channels: int,
    epilogue: Epilogue,
) -> Kernel | None:
    """Return what runs a layer without its bias, then one kernel; None if that is no gain.

    Args:
        alone: Runs the layer, given its input and its bias, and returns a new tensor.
        x: An input; what is returned takes those of its shape.
        bias: The bias.
        channels: How many elements a bias has.
        epilogue: What it is to do to its result.
    """
    replaced = _replaced(epilogue) + (bias is not None)
    is_bias = bias is not None and replaced == 1
    if triton_probe.lacks(x.get_device()) or not (is_bias or replaced > 1):
        return None
    end, size = Ending(epilogue, x.get_device(), is_small=is_bias), torch.Size([channels])

    def run(x: Tensor, bias: Tensor | None, *others: Tensor) -> Tensor:
        if bias is not None and bias.shape != size:
            return epilogue.written(alone(x, bias), others)  # which says what is wrong
        return end(alone(x, None), bias, others)

    return run


def linear(packed: Packed, x: Tensor, epilogue: Epilogue) -> Kernel | None:
    """Return what runs a linear layer with its bias, then one kernel; None if that is no gain."""
    if triton_probe.lacks(x.get_device()) or _replaced(epilogue) < 2:
        return None
    weight, end = packed.weight.detach(), Ending(epilogue, x.get_device())
    return lambda x, bias, *others: end(F.linear(x, weight, bias), None, others)


def _replaced(epilogue: Epilogue) -> int:
    """Return in the place of how many operators the kernel does an epilogue."""
    return bool(epilogue.binary) + (epilogue.activation is not None)
