"""Whether the private oneDNN operators are there, take what they took, and compute what they did.

They are PyTorch's own, made for its compiler, and may change in any release. Their schemas are
compared, and each is run once on a small example.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

_GEOMETRY = "int[] padding, int[] stride, int[] dilation, int groups"
_UNARY = "str attr, Scalar?[] scalars, str? algorithm"
_BINARY = (
    "str binary_attr, Scalar? alpha, str? unary_attr, Scalar?[] unary_scalars, str? unary_algorithm"
)
SCHEMAS = {
    ("_convolution_pointwise", "default"): (
        f"Tensor X, Tensor W, Tensor? B, {_GEOMETRY}, {_UNARY}"
    ),
    ("_convolution_pointwise", "binary"): (
        f"Tensor X, Tensor other, Tensor W, Tensor? B, {_GEOMETRY}, {_BINARY}"
    ),
    ("_convolution_transpose_pointwise", "default"): (
        "Tensor X, Tensor W, Tensor? B, int[] padding, int[] output_padding, int[] stride, "
        f"int[] dilation, int groups, {_UNARY}"
    ),
    ("_linear_pointwise", "default"): f"Tensor X, Tensor W, Tensor? B, {_UNARY}",
    ("_linear_pointwise", "binary"): "Tensor X, Tensor other, Tensor W, Tensor? B, str attr",
    ("_reorder_convolution_weight", "default"): (
        "Tensor self, int[2] padding=0, int[2] stride=1, int[2] dilation=1, int groups=1, "
        "int[]? input_size=None"
    ),
    ("_reorder_linear_weight", "default"): "Tensor self, int? batch_size=None",
}
"""The arguments of each operator, as PyTorch 2.11 to 2.14 print them."""
_TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 5e-2, torch.float16: 5e-3}


@dataclass(frozen=True, slots=True)
class Onednn:
    """What can be done with oneDNN here.

    Attributes:
        dtypes: The dtypes that its kernels take; none where they cannot be used.
        note: Why some or all cannot be, or empty.
    """

    dtypes: frozenset[torch.dtype]
    note: str


@cache
def onednn() -> Onednn:
    """Look once, and return what was found."""
    if not torch._C._has_mkldnn:
        return Onednn(frozenset(), "this build of torch has no oneDNN")
    changed = [f"{name}.{overload}" for name, overload in SCHEMAS if not _is_known(name, overload)]
    if changed:
        return Onednn(frozenset(), f"torch {torch.__version__} changed {', '.join(changed)}")
    wanted = [torch.float32, *_half_dtypes()]
    notes = {dtype: _complaint(dtype) for dtype in wanted}
    found = "; ".join(f"{dtype}: {note}" for dtype, note in notes.items() if note)
    return Onednn(frozenset(dtype for dtype, note in notes.items() if not note), found)


def _half_dtypes() -> Iterator[torch.dtype]:
    """Yield the half precisions that the processor computes in."""
    for dtype, name in ((torch.bfloat16, "bf16"), (torch.float16, "fp16")):
        operator = getattr(torch.ops.mkldnn, f"_is_mkldnn_{name}_supported", None)
        if operator is not None and operator():
            yield dtype


def _is_known(name: str, overload: str) -> bool:
    """Whether an operator takes the arguments that are known."""
    packet: Any = getattr(torch.ops.mkldnn, name, None)
    operator = getattr(packet, overload, None)
    if operator is None:
        return False
    arguments = str(operator._schema).partition("(")[2].rpartition(") -> ")[0]
    return arguments == SCHEMAS[name, overload]


def _complaint(dtype: torch.dtype) -> str:
    """Return what is wrong with what the operators compute, or an empty string."""
    with torch.no_grad():
        try:
            pairs = list(_examples(dtype))
        except Exception as error:  # a private operator may do anything
            return f"its kernels raise {type(error).__name__}"
    worst = max(float((got.double() - wanted.double()).abs().max()) for got, wanted in pairs)
    return "" if worst <= _TOLERANCES[dtype] else f"its kernels are off by {worst:.1e}"


def _examples(dtype: torch.dtype) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield what each operator computes, with what plain ones do."""
    from bnfuse.kernels import onednn_calls as calls  # it takes what this module found

    generator = torch.Generator(device="cpu").manual_seed(0)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device="cpu").div(4).to(dtype)

    x, weight, bias = drawn(1, 8, 6, 5), drawn(8, 8, 3, 3), drawn(8)
    geometry = calls.Geometry((1, 1), (1, 1), (1, 1), 1)
    packed, plain = calls.packed_convolution(weight, geometry), F.conv2d(x, weight, bias, 1, 1)
    yield calls.convolution(x, packed, bias, geometry, ("relu", [], "")), plain.relu()
    yield calls.convolution_sum(x, packed, bias, geometry, x, "add", "relu"), (plain + x).relu()
    yield calls.convolution_sum(x, packed, bias, geometry, x, "mul", None), plain * x
    grouped = geometry._replace(groups=2)
    half = weight[:, :4].contiguous()
    packed, plain = calls.packed_convolution(half, grouped), F.conv2d(x, half, bias, 1, 1, 1, 2)
    yield calls.convolution(x, packed, bias, grouped, ("none", [], "")), plain
    signal, image = drawn(1, 8, 20), geometry._replace(padding=(0, 1))
    packed = calls.packed_convolution(weight[:, :, :1].contiguous(), image)
    plain = F.conv1d(signal, weight[:, :, 0], bias, 1, 1)
    yield calls.convolution_of_signals(signal, packed, bias, *image, "none", [], ""), plain
    yield (
        calls.transposed(x, weight, bias, geometry, (0, 0), ("relu", [], "")),
        F.conv_transpose2d(x, weight, bias, 1, 1).relu(),
    )
    rows, matrix, offset, other = drawn(3, 5, 8), drawn(4, 8), drawn(4), drawn(3, 5, 4)
    packed, plain = calls.packed_linear(matrix, 15), F.linear(rows, matrix, offset)
    yield calls.linear(rows, packed, offset, ("relu", [], "")), plain.relu()
    yield calls.linear_sum(rows, packed, offset, other, "add"), plain + other
