"""The calls of cuDNN's fused convolutions, and whether they compute what they did.

PyTorch has two, for CUDA alone, made for its compilers: a convolution with bias and relu, and one
that adds a second value before the relu. Unlike a plain convolution they write their result once.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.kernels.onednn_calls import Geometry

SCHEMAS = {
    "cudnn_convolution_relu": (
        "Tensor self, Tensor weight, Tensor? bias, SymInt[] stride, SymInt[] padding, "
        "SymInt[] dilation, SymInt groups"
    ),
    "cudnn_convolution_add_relu": (
        "Tensor self, Tensor weight, Tensor z, Scalar? alpha, Tensor? bias, SymInt[] stride, "
        "SymInt[] padding, SymInt[] dilation, SymInt groups"
    ),
}
"""The arguments of each, as PyTorch 2.11 to 2.14 print them."""
DTYPES = (torch.float16, torch.bfloat16, torch.float32)
_TOLERANCES = {torch.float16: 5e-3, torch.bfloat16: 5e-2, torch.float32: 5e-3}
"""That of float32 allows for TF32, in which cuDNN multiplies unless it is told not to."""


@dataclass(frozen=True, slots=True)
class Cudnn:
    """What can be done with cuDNN's fused convolutions on a GPU.

    Attributes:
        dtypes: The dtypes that they take; none where they cannot be used.
        note: Why some or all cannot be, or empty.
    """

    dtypes: frozenset[torch.dtype]
    note: str


NOT_NOW = Cudnn(frozenset(), "a CUDA graph is being captured")


def relu(x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry) -> Tensor:
    """Return ``relu(conv(x))``, channels last if the input or the weight is."""
    padding, stride, dilation, groups = geometry
    return torch.cudnn_convolution_relu(x, weight, bias, stride, padding, dilation, groups)


def add_relu(
    x: Tensor, weight: Tensor, bias: Tensor | None, geometry: Geometry, other: Tensor
) -> Tensor:
    """Return ``relu(conv(x) + other)``, for a second value of the shape of the result."""
    padding, stride, dilation, groups = geometry
    return torch.cudnn_convolution_add_relu(
        x, weight, other, 1.0, bias, stride, padding, dilation, groups
    )


def cudnn(device: int) -> Cudnn:
    """Look once at a GPU, and return what was found.

    Nothing can be looked at while a CUDA graph is captured: then none may be used.
    """
    if torch.cuda.is_current_stream_capturing():
        return NOT_NOW
    return _looked_at(device)


@cache
def _looked_at(device: int) -> Cudnn:
    if torch.version.hip is not None:
        return Cudnn(frozenset(), "this build of torch is for ROCm")
    changed = [name for name, wanted in SCHEMAS.items() if _arguments(name) != wanted]
    if changed:
        return Cudnn(frozenset(), f"torch {torch.__version__} changed {', '.join(changed)}")
    notes = {dtype: _complaint(dtype, torch.device("cuda", device)) for dtype in DTYPES}
    found = "; ".join(f"{dtype}: {note}" for dtype, note in notes.items() if note)
    return Cudnn(frozenset(dtype for dtype, note in notes.items() if not note), found)


def _arguments(name: str) -> str:
    """Return the arguments of an operator as PyTorch prints them, nothing where it is gone."""
    packet = getattr(torch.ops.aten, name, None)
    schema = "" if packet is None else str(packet.default._schema)
    return schema.partition("(")[2].rpartition(") -> ")[0]


def _complaint(dtype: torch.dtype, device: torch.device) -> str:
    """Return what is wrong with what the operators compute, or an empty string."""
    from bnfuse.kernels.onednn_calls import Geometry

    geometry = Geometry((1, 1), (1, 1), (1, 1), 1)
    generator = torch.Generator(device).manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device).div(4).to(dtype)

    x, weight, bias = drawn(1, 16, 6, 5), drawn(16, 16, 3, 3), drawn(16)
    wanted = F.conv2d(x.double(), weight.double(), bias.double(), 1, 1)
    with torch.no_grad():
        try:
            alone = relu(x, weight, bias, geometry).double() - wanted.relu()
            summed = add_relu(x, weight, bias, geometry, x).double() - (wanted + x).relu()
            worst = float(torch.stack([alone, summed]).abs().max())
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            return f"its kernels raise {type(error).__name__}"
    return "" if worst <= _TOLERANCES[dtype] else f"its kernels are off by {worst:.1e}"
