"""Whether Triton's kernels can be used on a GPU, and whether each computes what it should.

Every kernel is compared once with PyTorch's own operators in float64 before it is used, on few
numbers, NaN and infinities among them; first by Triton's own call, then by its launcher. One that
differs is never used; a launcher that differs or fails is not.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from typing import TYPE_CHECKING

import torch

from bnfuse.kernels.activation import Activation
from bnfuse.kernels.epilogue import Epilogue
from bnfuse.kernels.triton_launch import Compiled, Variant, compiled, sizes

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.kernels.triton_launch import Launch, Sizes

LEAST = {torch.float16: (7, 0), torch.float32: (7, 0), torch.bfloat16: (8, 0)}
"""The compute capability that each dtype needs."""
_TOLERANCES = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 2e-6}
"""Relative to 1 or, above, to what is exact: a unit in the last place; in float32 some units."""


@dataclass(frozen=True, slots=True)
class Usable:
    """A kernel that was found to be right.

    Attributes:
        compiled: The kernel.
        is_direct: Whether its launcher may be used.
    """

    compiled: Compiled
    is_direct: bool

    def launch(self, sizes: Sizes) -> Launch:
        """Return what launches it, in the cheapest way."""
        return (self.compiled.directly if self.is_direct else self.compiled.by_triton)(sizes)


_KNOWN: dict[Variant, tuple[Usable | None, str]] = {}


@cache
def lacks(device: int) -> str:
    """Return why Triton cannot be used on a GPU at all, or an empty string."""
    if torch.version.hip is not None:
        return "this build of torch is for ROCm"
    if find_spec("triton") is None:
        return "triton is not installed"
    if os.environ.get("TRITON_INTERPRET", "0") != "0":
        return "triton interprets, as TRITON_INTERPRET asks for"
    capability = torch.cuda.get_device_capability(device)
    return "" if capability >= (7, 0) else "triton needs compute capability 7.0"


def is_known(variant: Variant) -> bool:
    """Whether a kernel was looked at, so that nothing has to be compiled."""
    return variant in _KNOWN


def usable(variant: Variant) -> Usable | None:
    """Return a kernel if it is right; looks at it at the first time, on the current GPU.

    That must not be while a CUDA graph is captured.
    """
    return _looked_at(variant)[0]


def _looked_at(variant: Variant) -> tuple[Usable | None, str]:
    if variant not in _KNOWN:
        _KNOWN[variant] = _look(variant)
    return _KNOWN[variant]


def _look(variant: Variant) -> tuple[Usable | None, str]:
    """Compile a kernel and compare it; return it if it is right, and a note if something is not."""
    missing = lacks(variant.device)
    if missing or torch.cuda.get_device_capability(variant.device) < LEAST[variant.dtype]:
        return None, missing or f"the GPU has no {variant.dtype}"
    try:
        made = compiled(variant)
        wrong = _complaint(variant, made.by_triton)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # a compiler may raise anything
        return None, f"triton raises {type(error).__name__}"
    if wrong:
        return None, f"its kernels are {wrong}"
    try:
        wrong = _complaint(variant, made.directly)
        wrong = wrong and f"are {wrong}"
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # so may a private call
        wrong = f"raise {type(error).__name__}"
    note = f"triton's launchers {wrong}" if wrong else ""
    return Usable(made, is_direct=not wrong), note


def _complaint(variant: Variant, way: object) -> str:
    """Return what is wrong with what a kernel computes, or an empty string."""
    y, bias, other = _operands(variant)
    channels, rest = y.shape[1], y[0, 0].numel()
    epilogue = Epilogue(variant.binary, variant.activation)
    others = (other,) if variant.binary else ()
    start = y.double() + bias.double().view(-1, 1, 1) if variant.has_bias else y.double()
    wanted = epilogue.plain(start, tuple(o.double() for o in others))
    period = channels if variant.is_last else rest
    tensors = (y, bias, other)
    way(sizes(variant, y.numel(), period, channels))(tensors, tuple(t.data_ptr() for t in tensors))  # type: ignore[operator]
    if not torch.equal(y.isnan(), wanted.isnan()):
        return "off where a NaN is"
    off = (y.double() - wanted).abs() / wanted.abs().clamp(min=1)
    worst = float(off[wanted.isfinite()].max())
    is_same = torch.equal(y[wanted.isinf()].double(), wanted[wanted.isinf()])
    return "" if worst <= _TOLERANCES[variant.dtype] and is_same else f"off by {worst:.1e}"


def _operands(variant: Variant) -> tuple[Tensor, Tensor, Tensor]:
    """Return a result, a bias and a second value, more of them than a program writes."""
    device = torch.device("cuda", variant.device)
    generator = torch.Generator(device).manual_seed(0)
    layout = torch.channels_last if variant.is_last else torch.contiguous_format
    shape = (2, 5 * variant.width, 11, 4 * variant.width)

    def drawn(*size: int) -> Tensor:
        made = 2 * torch.randn(size, generator=generator, device=device)
        return made.to(variant.dtype)

    y, other = (drawn(*shape).contiguous(memory_format=layout) for _ in range(2))
    special = [torch.nan, torch.inf, -torch.inf, -0.0]
    y[0, 0, 0, :4] = torch.tensor(special, device=device, dtype=variant.dtype)
    return y, drawn(shape[1]), other


@dataclass(frozen=True, slots=True)
class Found:
    """What can be done with Triton on a GPU.

    Attributes:
        dtypes: The dtypes of which a kernel was found to be right.
        note: Why some or all cannot be used, or are slow to launch; or empty.
    """

    dtypes: frozenset[torch.dtype]
    note: str


def triton(device: int) -> Found:
    """Look at a kernel of each dtype, as ``bnfuse doctor`` does."""
    relu = Activation("relu")
    found = {}
    with torch.cuda.device(device), torch.no_grad():
        for dtype in LEAST:
            at_once = 16 // dtype.itemsize
            found[dtype] = _looked_at(Variant(device, dtype, relu, "", True, False, at_once))
    notes = dict.fromkeys(note for _, note in found.values() if note)
    right = frozenset(dtype for dtype, (kernel, _) in found.items() if kernel is not None)
    return Found(right, "; ".join(notes))
