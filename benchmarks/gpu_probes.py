"""Can bnfuse build on the fused convolutions of cuDNN: do they run, are they right, are they fast.

PyTorch has ``cudnn_convolution_relu`` and ``cudnn_convolution_add_relu`` for CUDA alone, and its
issue tracker knows three things to be afraid of: no engine for a shape or dtype, a 7 x 7
convolution in channels_last that was 17 times as slow (pytorch/pytorch#68506), and a sum whose
second operand is the input itself (#62926). A fourth is in the source: the one without a sum hands
its uninitialized output to cuDNN as a summand with the factor 0, and 0 times NaN is NaN.
"""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu_conv import (
    Operands,
    as_matrix,
    exact,
    fused,
    one_kernel,
    operands,
    pointwise,
    separate,
)
from benchmarks.gpu_guard import cudnn_tf32, deviation, guarded
from benchmarks.gpu_plan import GROUPED, SHAPES, ConvShape
from benchmarks.gpu_timing import kernel_us

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

    Call = Callable[[], Tensor]
    Timer = Callable[[Call], float]

COMPARED = 8
"""Images of a batch that are compared with float64."""
POISONED_BLOCKS, POISONINGS = 4, 5
WORKSPACES = (2**22, 2**25, 2**28)
"""Bytes of the further blocks that are poisoned, for what a convolution may allocate beside."""
FUSED_OPERATORS = ("cudnn_convolution_relu", "cudnn_convolution_add_relu")


def schemas() -> dict[str, Any]:
    """Return how this PyTorch declares the fused operations."""
    found = {name: guarded(_schema, name) for name in FUSED_OPERATORS}
    return {"candidates": found}


def _schema(name: str) -> dict[str, Any]:
    return {"schema": str(getattr(torch.ops.aten, name).default._schema)}


def conv(
    shape: str,
    dtype: str,
    tf32: bool,
    batch: int,
    device: str = "cuda",
    timer: Timer = kernel_us,
) -> dict[str, Any]:
    """Compute one convolution in three ways, in channels_last; pointwise ones in a fourth."""
    chosen = {**SHAPES, **GROUPED}[shape]
    o = operands(chosen, dtype, batch, device)
    calls = {
        "separate": partial(separate, o),
        "one kernel": partial(_with_one_kernel, o),
        "cudnn": partial(fused, o),
    }
    if (chosen.kernel, chosen.stride) == (1, 1):
        calls["matrix"] = partial(as_matrix, o)
    with cudnn_tf32(tf32):
        return {"candidates": _compared(calls, exact(o, COMPARED), timer)}


def _with_one_kernel(o: Operands) -> Tensor:
    return pointwise(o, one_kernel())


def _compared(calls: Mapping[str, Call], wanted: Tensor, timer: Timer) -> dict[str, Any]:
    return {name: guarded(_error_and_time, call, wanted, timer) for name, call in calls.items()}


def _error_and_time(call: Call, wanted: Tensor, timer: Timer) -> dict[str, Any]:
    error = deviation(call()[: len(wanted)], wanted)
    return {"error": error, **guarded(lambda: {"us": timer(call)})}


def stem(dtype: str, batch: int, device: str = "cuda", timer: Timer = kernel_us) -> dict[str, Any]:
    """Compute the 7 x 7 convolution in both layouts (pytorch/pytorch#68506)."""
    found: dict[str, Any] = {}
    for title, layout in (("NCHW", torch.contiguous_format), ("NHWC", torch.channels_last)):
        o = operands(SHAPES["conv1"], dtype, batch, device, layout)
        calls = {f"separate {title}": partial(separate, o), f"cudnn {title}": partial(fused, o)}
        found |= _compared(calls, exact(o, COMPARED), timer)
    return {"candidates": found}


def aliased(dtype: str, kernel: int, device: str = "cuda") -> dict[str, Any]:
    """Add the input itself to a convolution of it (pytorch/pytorch#62926), and a copy of it."""
    shape = ConvShape(256, 256, kernel, 1, 14, residual=True)
    o = operands(shape, dtype, 2, device)
    pairs = {"input": replace(o, z=o.x), "copy": replace(o, z=o.x.clone())}
    found = {name: guarded(_error, one) for name, one in pairs.items()}
    return {"candidates": found}


def _error(o: Operands) -> dict[str, Any]:
    return {"error": deviation(fused(o), exact(o, len(o.x)))}


def nan(dtype: str, device: str = "cuda") -> dict[str, Any]:
    """Return how many elements are NaN behind one that is, of the input and of the summand."""
    o = operands(ConvShape(64, 64, 3, 1, 14), dtype, 1, device)
    o.x[0, 0, 4, 4] = torch.nan
    summed = replace(o, z=torch.full_like(separate(o), torch.nan))
    ways = {"separate": separate, "cudnn": fused}
    found = {name: guarded(_count_nan, way, o, summed) for name, way in ways.items()}
    return {"candidates": found}


def _count_nan(way: Callable[[Operands], Tensor], *cases: Operands) -> dict[str, Any]:
    return {"nan": [int(way(o).isnan().sum()) for o in cases]}


def poison(shape: str, dtype: str, device: str = "cuda") -> dict[str, Any]:
    """Run a convolution where the allocator hands out memory full of NaN."""
    o = operands(SHAPES[shape], dtype, 8, device)
    calls = {"separate": partial(separate, o), "cudnn": partial(fused, o)}
    return {"candidates": {name: guarded(poisoned, call) for name, call in calls.items()}}


def poisoned(call: Call) -> dict[str, Any]:
    """Compare a call with itself after blocks of memory were filled with NaN and freed.

    ``reached`` tells whether memory handed out afterwards did hold NaN: without it the rest proves
    nothing.
    """
    clean = call().clone()
    found = {"reached": False, "nan": 0, "equal": True}
    for _ in range(POISONINGS):
        found["reached"] |= _fill_with_nan(clean)
        got = call()
        found["nan"] += int(got.isnan().sum())
        found["equal"] &= torch.equal(got, clean)
        del got
    return found


def _fill_with_nan(like: Tensor) -> bool:
    """Fill blocks with NaN, free them, and return whether a new block holds NaN."""
    blocks = [torch.full_like(like, torch.nan) for _ in range(POISONED_BLOCKS)]
    elements = [size // like.element_size() for size in WORKSPACES]
    blocks += [like.new_full((n,), torch.nan) for n in elements]
    blocks.clear()
    return bool(torch.empty_like(like).isnan().any())
