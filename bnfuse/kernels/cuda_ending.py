"""The end of a layer on a GPU by one Triton kernel, over the memory of the layer's result.

What the kernel may not touch goes to PyTorch's own operators, which compute the same: a second
value of another shape, dtype or layout, memory that is not aligned, sizes beyond 32 bits, results
too small to be worth a slow launch, and all that was not compiled before a CUDA graph is captured.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor, nn

from bnfuse.kernels import triton_probe
from bnfuse.kernels.triton_launch import BYTES, Variant, sizes, width

if TYPE_CHECKING:
    from bnfuse.kernels.epilogue import Epilogue
    from bnfuse.kernels.triton_launch import Launch

_LEAST_BYTES = 1 << 22
"""Of a result, where a launch takes longer than the operators' and no CUDA graph is captured.

Triton's own launch takes as long as those of four operators, the direct one as long as one.
"""
_MOST_ELEMENTS = 2**31 - 1
_PLAIN = (nn.Parameter, Tensor)
_FORMATS = {4: torch.channels_last, 5: torch.channels_last_3d}


class Plan(NamedTuple):
    """What to do with results of one layout.

    Attributes:
        launch: Launches the kernel; None if that may not be.
        is_always: Whether it is to be launched at any time, not only into a CUDA graph.
    """

    launch: Launch | None
    is_always: bool = False


class Ending:
    """Ends a layer for the results of one shape, over their memory.

    Attributes:
        epilogue: What it does, after it has added a bias.
        device: The number of the GPU.
        is_small: Whether a single operator does as much.
    """

    def __init__(self, epilogue: Epilogue, device: int, *, is_small: bool = False) -> None:
        self.epilogue = epilogue
        self.device = device
        self.is_small = is_small
        self._plans: dict[tuple[tuple[int, ...], bool], Plan] = {}

    def __call__(self, y: Tensor, bias: Tensor | None, others: tuple[Tensor, ...]) -> Tensor:
        """Return the end of a layer.

        Args:
            y: A new result without the bias, which is written over.
            bias: The bias, a vector of its dtype; None if there is none or it was added.
            others: The second value, if there is one.
        """
        if _current_device() != self.device:
            with torch.cuda.device(self.device):
                return self(y, bias, others)
        strides = y.stride()
        launch, is_always = self._plans.get((strides, bias is None)) or self._planned(y, bias)
        if (
            launch is not None
            and (is_always or torch.cuda.is_current_stream_capturing())
            and (bias is None or _is_vector(bias, self.device))
            and (not others or _is_alike(others[0], y, strides))
        ):
            tensors = (y, y if bias is None else bias, others[0] if others else y)
            _, at, other_at = pointers = tuple([t.data_ptr() for t in tensors])
            if not (at | other_at) % BYTES:
                launch(tensors, pointers)
                return y
        if bias is not None:
            y.add_(bias.view(-1, *(1,) * (y.ndim - 2)))
        return self.epilogue.written(y, others)

    def _planned(self, y: Tensor, bias: Tensor | None) -> Plan:
        """Return what to do with such a result; at the first time that is found out, and noted.

        While a CUDA graph is captured a kernel that is not known cannot be, and nothing is noted.
        """
        plan, has_bias = Plan(None), bias is not None
        is_last = not y.is_contiguous()
        if _is_dense(y) and 0 < y.numel() <= _MOST_ELEMENTS:
            channels, period = (y.shape[1], prod(y.shape[2:])) if has_bias else (1, y.numel())
            period = channels if is_last and has_bias else period
            binary, activation = self.epilogue.binary.removeprefix("i"), self.epilogue.activation
            at_once = width(period, y.dtype.itemsize)
            by_pixel = is_last and has_bias
            key = Variant(self.device, y.dtype, activation, binary, has_bias, by_pixel, at_once)
            if not triton_probe.is_known(key) and torch.cuda.is_current_stream_capturing():
                return plan
            kernel = triton_probe.usable(key)
            if kernel is not None:
                launch = kernel.launch(sizes(key, y.numel(), period, channels))
                is_cheap = kernel.is_direct and not self.is_small
                plan = Plan(launch, is_cheap or y.numel() * y.dtype.itemsize >= _LEAST_BYTES)
        self._plans[y.stride(), bias is None] = plan
        return plan


def _current_device() -> int:
    """Return the number of the current GPU, of a process that has one in use."""
    return torch._C._cuda_getDevice()


def _is_dense(y: Tensor) -> bool:
    """Whether a result fills its memory, in one of two orders."""
    layout = _FORMATS.get(y.ndim, torch.contiguous_format)
    return y.is_contiguous() or y.is_contiguous(memory_format=layout)


def _is_alike(other: Tensor, y: Tensor, strides: tuple[int, ...]) -> bool:
    """Whether a second value lies in memory as the result does."""
    return (
        other.stride() == strides
        and other.shape == y.shape
        and other.dtype is y.dtype
        and not other.is_neg()
    )


def _is_vector(bias: Tensor, device: int) -> bool:
    """Whether a bias is a plain dense tensor beside the result."""
    return (
        type(bias) in _PLAIN
        and bias.is_contiguous()
        and bias.get_device() == device
        and not bias.is_neg()
    )
