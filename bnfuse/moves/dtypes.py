"""Whether a value is sure to be of a floating-point dtype, so that arithmetic may be left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from bnfuse.ops.calls import read_call
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from bnfuse.moves.origin import Origin
    from bnfuse.moves.step import Traveller

_CASTS = frozenset({"float", "half", "double", "bfloat16"})
_MOST_STEPS = 64


def is_surely_floating(traveller: Traveller, origin: Origin) -> bool:
    """Whether what an affine is applied to has the dtype of its result.

    ``image / 255`` makes floating-point numbers of integers; without it the layer behind it would
    be given integers. A batch norm accepts nothing but floating-point numbers.
    """
    if origin.call.kind is Kind.BATCH_NORM:
        return True
    pending, steps = [origin.value], 0
    while pending:
        value = pending.pop()
        steps += 1
        recorded = value.meta.get("val")
        if recorded is not None and getattr(recorded, "is_floating_point", lambda: False)():
            continue
        if steps > _MOST_STEPS:
            return False
        if value.op == "call_method" and value.target in _CASTS:
            continue
        call = read_call(traveller.program, value)
        if call is None or call.hooked:
            return False
        if call.kind.is_linear or call.kind is Kind.BATCH_NORM:
            continue
        pending += [operand for operand in call.operands if isinstance(operand, fx.Node)]
    return True
