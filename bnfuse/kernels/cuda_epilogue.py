"""Ends a layer on a GPU with one kernel for bias, sum or product, and activation.

PyTorch's convolutions on CUDA add the bias in a kernel of their own, and each further operator is
one more, which reads and writes the whole result::

    conv, + b, + r, silu      4 kernels
    conv, (+ b + r, silu)     2 kernels

It runs where it replaces two operators or more. What it may not touch goes to PyTorch's own
operators, with the same result: a second value of another shape, dtype or layout, memory that is
not aligned, sizes beyond 32 bits, and all that was not compiled before a CUDA graph is captured.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.kernels import triton_probe
from bnfuse.kernels.triton_launch import BYTES, Variant, sizes, width

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.kernels.epilogue import Epilogue
    from bnfuse.kernels.onednn_calls import Geometry
    from bnfuse.kernels.packed import Kernel, Packed
    from bnfuse.kernels.triton_launch import Launch

_LEAST_BYTES = 0
"""Of a result: below this PyTorch's own operators run instead of a kernel launched directly."""
_LEAST_BYTES_BY_TRITON = 1 << 22
"""The same where Triton launches, outside of CUDA graphs: its launch takes as long as four."""
_MOST_ELEMENTS = 2**31 - 1
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


def convolution(
    packed: Packed, x: Tensor, bias: Tensor | None, geometry: Geometry, epilogue: Epilogue
) -> Kernel | None:
    """Return what runs a convolution without its bias, then one kernel; None if that is no gain."""
    weight = packed.weight.detach()
    padding, stride, dilation, groups = geometry
    conv = F.conv2d if x.ndim == 4 else F.conv3d

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
    if not _is_worth(x, epilogue, has_bias=bias is not None):
        return None
    end = Ending(epilogue, x.get_device())

    def run(x: Tensor, bias: Tensor | None, *others: Tensor) -> Tensor:
        if bias is not None and (bias.ndim, len(bias)) != (1, channels):
            return epilogue.written(alone(x, bias), others)  # which says what is wrong
        return end(alone(x, None), bias, others)

    return run


def linear(packed: Packed, x: Tensor, epilogue: Epilogue) -> Kernel | None:
    """Return what runs a linear layer with its bias, then one kernel; None if that is no gain."""
    if not _is_worth(x, epilogue, has_bias=False):
        return None
    weight, end = packed.weight.detach(), Ending(epilogue, x.get_device())
    return lambda x, bias, *others: end(F.linear(x, weight, bias), None, others)


def _is_worth(x: Tensor, epilogue: Epilogue, *, has_bias: bool) -> bool:
    """Whether the kernel replaces two operators or more, where Triton can be used."""
    replaced = has_bias + bool(epilogue.binary) + (epilogue.activation is not None)
    return replaced > 1 and not triton_probe.lacks(x.get_device())


class Ending:
    """Ends a layer for the results of one shape, over their memory.

    Attributes:
        epilogue: What it does, after it has added a bias.
        device: The number of the GPU.
    """

    def __init__(self, epilogue: Epilogue, device: int) -> None:
        self.epilogue = epilogue
        self.device = device
        self._plans: dict[tuple[bool, bool], tuple[Launch | None, bool]] = {}

    def __call__(self, y: Tensor, bias: Tensor | None, others: tuple[Tensor, ...]) -> Tensor:
        """Return the end of a layer.

        Args:
            y: A new result without the bias, which is written over.
            bias: The bias, or None if there is none or it was added.
            others: The second value, if there is one.
        """
        if torch.cuda.current_device() != self.device:
            with torch.cuda.device(self.device):
                return self(y, bias, others)
        is_last = not y.is_contiguous()
        if _fits(y, is_last, bias, others):
            launch, is_always = self._plan(y, is_last, bias is not None)
            if launch is not None and (is_always or torch.cuda.is_current_stream_capturing()):
                tensors = (y, y if bias is None else bias, others[0] if others else y)
                pointers = tuple([t.data_ptr() for t in tensors])
                if not any(at % BYTES for at in pointers):
                    launch(tensors, pointers)
                    return y
        if bias is not None:
            y.add_(bias.view(-1, *(1,) * (y.ndim - 2)))
        return self.epilogue.written(y, others)

    def _plan(self, y: Tensor, is_last: bool, has_bias: bool) -> tuple[Launch | None, bool]:
        """Return what launches the kernel for a layout, and whether it is to run at any time."""
        found = self._plans.get((is_last, has_bias))
        if found is not None:
            return found
        by_pixel = is_last and has_bias
        channels, period = y.shape[1] if has_bias else 1, y.numel()
        if has_bias:
            period = channels if is_last else prod(y.shape[2:])
        binary, activation = self.epilogue.binary.removeprefix("i"), self.epilogue.activation
        at_once = width(period, y.dtype.itemsize)
        key = Variant(self.device, y.dtype, activation, binary, has_bias, by_pixel, at_once)
        if not triton_probe.is_known(key) and torch.cuda.is_current_stream_capturing():
            return None, False
        kernel = triton_probe.usable(key) if 0 < y.numel() <= _MOST_ELEMENTS else None
        if kernel is None:
            made: tuple[Launch | None, bool] = (None, False)
        else:
            least = _LEAST_BYTES if kernel.is_direct else _LEAST_BYTES_BY_TRITON
            launch = kernel.launch(sizes(key, y.numel(), period, channels))
            made = (launch, y.numel() * y.dtype.itemsize >= least)
        self._plans[is_last, has_bias] = made
        return made


def _fits(y: Tensor, is_last: bool, bias: Tensor | None, others: tuple[Tensor, ...]) -> bool:
    """Whether memory can be taken as it lies: all dense, and alike."""
    layout = torch.contiguous_format
    if is_last:
        layout = _FORMATS.get(y.ndim, layout)
        if not y.is_contiguous(memory_format=layout):
            return False
    for other in others:
        if other.shape != y.shape or other.dtype is not y.dtype or other.is_neg():
            return False
        if not other.is_contiguous(memory_format=layout):
            return False
    return bias is None or _is_vector(bias, y)


def _is_vector(bias: Tensor, y: Tensor) -> bool:
    """Whether a bias is a plain dense tensor beside the result."""
    return (
        type(bias) in (nn.Parameter, Tensor)
        and bias.is_contiguous()
        and bias.get_device() == y.get_device()
        and bias.dtype is y.dtype
        and not bias.is_neg()
    )
