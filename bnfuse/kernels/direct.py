"""A kernel that calls oneDNN itself, with nothing of PyTorch between.

What it runs is compared with PyTorch's own operators first, on random numbers, for each number of
threads. Where they differ by more than rounding, the layer keeps PyTorch's kernel and a warning
says so. Addresses are read only from tensors that are, at each call, what was prepared for.
"""

from __future__ import annotations

import math
import warnings
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch

from bnfuse.kernels.channels_last import laid_out, strides_of
from bnfuse.kernels.installed import installed
from bnfuse.kernels.library import UnsupportedError
from bnfuse.kernels.prepared import DTYPES, Layout, Prepared, Problem

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from bnfuse.kernels.epilogue import Epilogue
    from bnfuse.kernels.library import Library
    from bnfuse.kernels.packed import Kernel
    from bnfuse.kernels.prepared import Weights

_TOLERANCES = {torch.float32: 1e-4, torch.bfloat16: 3e-2, torch.float16: 4e-3}
"""Between two kernels, relative to the largest element; a wrong one is off by about 1."""
_LARGE = 8.0
"""Sums beyond are made smaller by the input: where an activation ends, their rounding is seen."""
_MOST_ELEMENTS = 1 << 26
"""Beyond, a call takes long however it starts, and to compare would take memory that counts."""
_STRIDED = torch.strided
_DRAWN = 65521
"""How many random numbers are drawn: a prime, so that they fall otherwise on each channel."""


@dataclass(frozen=True, slots=True)
class Job:
    """A fused layer that inputs of one shape come to.

    Attributes:
        size: The shape of the inputs.
        weight: The weight, detached.
        bias: The bias, if there is one.
        epilogue: What the layer does to its result.
        formats: The formats of the weight that are there already.
        otherwise: Makes the kernel for what this one is not for: a second operand of another shape
            or dtype, a bias that is gone.
    """

    size: torch.Size
    weight: Tensor
    bias: Tensor | None
    epilogue: Epilogue
    formats: Weights
    otherwise: Callable[[], Kernel]


@dataclass(frozen=True, slots=True)
class Computation:
    """What a layer is to oneDNN.

    Attributes:
        prepare: Prepares it.
        weight: The weight, its axes as the library has them.
        source: The layout of an input, as the library sees it.
        result: That of a result.
        shape: The shape of a result.
        memory_format: How inputs and results are laid out; a signal's is that of images.
        alone: The layer without what follows, by PyTorch's own operators.
    """

    prepare: Callable[[Library, Problem], Prepared]
    weight: Tensor
    source: Layout
    result: Layout
    shape: torch.Size
    memory_format: torch.memory_format
    alone: Callable[[Tensor, Tensor | None], Tensor]


class Direct:
    """A kernel: a function of an input, a bias and perhaps a second operand."""

    def __init__(self, job: Job, computation: Computation, prepared: Prepared) -> None:
        """Take what was prepared.

        Args:
            job: The layer.
            computation: What it is to oneDNN.
            prepared: The computation, for as many threads as there are now.
        """
        self._prepared = prepared
        self._bias_shape = None if job.bias is None else job.bias.shape
        self._format = computation.memory_format
        self._shape = computation.shape
        self._given = strides_of(job.size, computation.memory_format)
        self._strides = strides_of(computation.shape, computation.memory_format)
        otherwise = self._otherwise = cache(job.otherwise)
        # Neither may hold this object: weights are given back as soon as nothing needs them.
        self._for_threads = cache(lambda _: kernel_of(job, computation) or otherwise())

    def __call__(self, x: Tensor, bias: Tensor | None, *others: Tensor) -> Tensor:
        """Return the result of the layer."""
        if not (self._fits(x, others) and self._takes(bias)):
            return self._otherwise()(x, bias, *others)
        threads = torch.get_num_threads()
        if threads != self._prepared.threads:
            result: Tensor = self._for_threads(threads)(x, bias, *others)
            return result
        y = x.new_empty_strided(self._shape, self._strides)
        self.write(y, x, bias, *others)
        return y

    def write(self, y: Tensor, x: Tensor, bias: Tensor | None, *others: Tensor) -> None:
        """Write the result, for operands that are taken, into a tensor of its layout."""
        other_at = None
        if x.stride() != self._given:
            x = laid_out(x, self._format)
        for other in others:
            if other.stride() != self._strides:
                other = torch.empty_like(y).copy_(other)  # and lives until the end
            other_at = other.data_ptr()
        bias_at = None if bias is None else bias.data_ptr()
        self._prepared(x.data_ptr(), y.data_ptr(), bias_at, other_at)

    @property
    def kernel(self) -> str:
        """The name that oneDNN has for what runs."""
        return self._prepared.kernel

    def _fits(self, x: Tensor, others: tuple[Tensor, ...]) -> bool:
        """Whether the operands are read from memory as they are, one value for each of theirs."""
        for other in others:
            if other.shape != self._shape or other.dtype is not x.dtype or not _is_in_memory(other):
                return False
        return _is_in_memory(x)

    def _takes(self, bias: Tensor | None) -> bool:
        """Whether a bias is like the one that was prepared for; it may have been changed since."""
        if bias is None or self._bias_shape is None:
            return bias is None and self._bias_shape is None
        return _is_vector(bias, self._bias_shape)


def kernel_of(job: Job, computation: Computation) -> Kernel | None:
    """Return the kernel of a layer, if it computes what PyTorch does.

    Returns:
        None where no build of oneDNN is installed, or it has no kernel that is fast and right.
    """
    library, weight, bias = installed().library, job.weight, job.bias
    channels = torch.Size(
        [computation.result.shape[-1 if len(computation.result.shape) == 2 else 1]]
    )
    if library is None or weight.dtype not in DTYPES or not _is_in_memory(weight):
        return None
    if max(job.size.numel(), computation.shape.numel()) > _MOST_ELEMENTS:
        return None
    if bias is not None and not _is_vector(bias, channels):
        return None
    problem = Problem(
        computation.source, computation.result, computation.weight, bias is not None, job.epilogue
    )
    try:
        made = Direct(job, computation, computation.prepare(library, problem))
    except UnsupportedError:
        return None
    difference = _difference(made, job, computation)
    if difference is None or difference <= _TOLERANCES[weight.dtype]:
        return None if difference is None else made
    warnings.warn(
        f"oneDNN's kernel {made.kernel} is off by {difference:.1e} for {tuple(job.size)}: "
        "PyTorch's kernel is used instead; please report it.",
        stacklevel=2,
    )
    return None


@torch.no_grad()
def _difference(made: Direct, job: Job, computation: Computation) -> float | None:
    """Return how far a kernel is from PyTorch's operators, relative to the largest element.

    Returns:
        None where PyTorch's results are not finite, so that there is nothing to compare with.
    """
    dtype, bias_shape = job.weight.dtype, None if job.bias is None else job.bias.shape
    x = _numbers(job.size, dtype)  # laid out as most are, for which PyTorch's are known best
    bias = None if bias_shape is None else _numbers(bias_shape, dtype)
    others = (_numbers(computation.shape, dtype),) if job.epilogue.binary else ()
    sums = computation.alone(x, bias)
    if _largest(sums) > _LARGE:
        sums = computation.alone(x.mul_(_LARGE / _largest(sums)), bias)
    wanted = job.epilogue.plain(sums, others)
    scale = _largest(wanted) or 1.0
    if not math.isfinite(scale):
        return None
    y = x.new_full((wanted.numel(),), torch.nan)  # what is not written is seen
    y = y.as_strided(computation.shape, strides_of(computation.shape, computation.memory_format))
    made.write(y, x, bias, *others)
    found = _largest(y.float().sub_(wanted)) / scale
    return found if math.isfinite(found) else math.inf


def _largest(x: Tensor) -> float:
    """Return the largest magnitude, not a number if any element is none; nothing is copied."""
    return float(torch.linalg.vector_norm(x, math.inf))


def _numbers(shape: Sequence[int], dtype: torch.dtype) -> Tensor:
    """Return a contiguous tensor of random numbers."""
    count = math.prod(shape)
    return _drawn().repeat(-(-count // _DRAWN))[:count].view(tuple(shape)).to(dtype)


@cache
def _drawn() -> Tensor:
    generator = torch.Generator("cpu").manual_seed(0)
    return torch.randn(_DRAWN, generator=generator, device="cpu")


def _is_in_memory(x: Tensor) -> bool:
    """Whether the values of a tensor are what is found at its address, by its strides."""
    return x.is_cpu and x.layout is _STRIDED and not x.is_neg() and x.data_ptr() != 0


def _is_vector(bias: Tensor, shape: torch.Size) -> bool:
    """Whether a bias is so many numbers, one behind the other."""
    return bias.shape == shape and _is_in_memory(bias) and bias.is_contiguous()
