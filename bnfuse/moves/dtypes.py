"""Whether a value is sure to be of a floating-point dtype, so that arithmetic may be left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from bnfuse.ops.calls import read_call
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from bnfuse.moves.origin import Origin
    from bnfuse.moves.step import Traveller

_CASTS = {
    "float": torch.float32, "half": torch.float16, "double": torch.float64,
    "bfloat16": torch.bfloat16,
}  # fmt: skip
_FLOATING = frozenset(_CASTS.values())
_MOST_STEPS = 64


def keeps_dtype(traveller: Traveller, origin: Origin) -> bool:
    """Whether what an affine is applied to has the dtype of its result.

    ``image / 255`` makes floating-point numbers of integers; without it the layer behind it would
    be given integers. A tensor of float32 makes float32 of float16. A batch norm accepts nothing
    but floating-point numbers and returns what it is given.
    """
    if origin.call.kind is Kind.BATCH_NORM:
        return True
    wanted = origin.dtypes or _FLOATING
    pending, steps = [origin.value], 0
    while pending:
        value = pending.pop()
        steps += 1
        if steps > _MOST_STEPS:
            return False
        known = _stated(traveller, value)
        if known in wanted:
            continue
        call = read_call(traveller.program, value)
        if known is not None or call is None or call.hooked or "dtype" in call.computed:
            return False
        if call.kind is Kind.BATCH_NORM and wanted is _FLOATING:
            continue
        pending += [operand for operand in call.operands if isinstance(operand, fx.Node)]
    return True


def _stated(traveller: Traveller, value: fx.Node) -> torch.dtype | None:
    """Return the dtype that a node fixes by itself, or None where it follows from its inputs'."""
    recorded = getattr(value.meta.get("val"), "dtype", None)
    if isinstance(recorded, torch.dtype):
        return recorded
    if value.op == "call_method" and value.target in _CASTS:
        return _CASTS[str(value.target)]
    if value.op == "get_attr":
        tensor = traveller.program.tensor(str(value.target))
        return None if tensor is None else tensor.dtype
    call = read_call(traveller.program, value)
    if call is not None and isinstance(asked := call.options.get("dtype"), torch.dtype):
        return asked
    is_table = call is not None and call.kind is Kind.EMBEDDING
    if call is None or call.hooked or not (call.kind.is_linear or is_table):
        return None
    weight = call.tensor("weight")
    return None if weight is None else weight.dtype
