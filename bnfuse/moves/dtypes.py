"""Which dtype a value is sure to have, so that arithmetic may be left out and casts passed."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from bnfuse.moves.step import Moved
from bnfuse.ops.calls import read_call
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Collection

    from bnfuse.affine import Affine
    from bnfuse.moves.origin import Origin
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call

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
    return _is_one_of(traveller, origin.value, origin.dtypes or _FLOATING)


def up_through_cast(traveller: Traveller, call: Call, affine: Affine) -> tuple[Moved, ...]:
    """Move an affine before a cast to the dtype that the value is sure to have."""
    if not _casts_nothing(traveller, call):
        return ()
    ranks = ((call.input, affine.rank),) if affine.is_placed else ()
    return (Moved(((call.input, affine),), ranks=ranks),)


def down_through_cast(
    traveller: Traveller, call: Call, _: fx.Node, affine: Affine
) -> tuple[Moved, ...]:
    """Move an affine behind a cast to the dtype that the value is sure to have."""
    return (Moved(((call.node, affine),)),) if _casts_nothing(traveller, call) else ()


def _casts_nothing(traveller: Traveller, call: Call) -> bool:
    """Whether a value has the dtype already that it is cast to: rounding passes no affine."""
    wanted = _cast_to(call)
    return wanted is not None and _is_one_of(traveller, call.input, {wanted})


def _is_one_of(traveller: Traveller, source: fx.Node, wanted: Collection[torch.dtype]) -> bool:
    """Whether a value has one of some dtypes, as far as it is looked back for what says so."""
    pending, steps = [source], 0
    while pending:
        value = pending.pop()
        steps += 1
        if steps > _MOST_STEPS:
            return False
        known = _stated(traveller, value)
        if known in wanted:
            continue
        call = read_call(traveller.program, value)
        if known is not None or call is None or call.hooked or _may_change(call):
            return False
        if call.kind is Kind.BATCH_NORM and wanted is _FLOATING:
            continue
        pending += [operand for operand in call.operands if isinstance(operand, fx.Node)]
    return True


def _may_change(call: Call) -> bool:
    """Whether the dtype of a result may be none of the operands': indices, views, casts."""
    shape = call.options.get("shape")
    parts = shape if isinstance(shape, list | tuple) else (shape,)
    return (
        call.kind is Kind.CAST
        or call.options.get("dtype") is not None
        or bool(call.options.get("return_indices"))
        or any(isinstance(part, torch.dtype) for part in parts)
    )


def _cast_to(call: Call) -> torch.dtype | None:
    """Return the dtype that a cast asks for; None where it asks for a device, or computes it."""
    asked = _CASTS.get(call.spelling, call.options["dtype"])
    is_plain = call.options["non_blocking"] in (False, True)  # else to(device, dtype)
    return asked if isinstance(asked, torch.dtype) and is_plain else None


def _stated(traveller: Traveller, value: fx.Node) -> torch.dtype | None:
    """Return the dtype that a node fixes by itself, or None where it follows from its inputs'."""
    recorded = getattr(value.meta.get("val"), "dtype", None)
    if isinstance(recorded, torch.dtype):
        return recorded
    if value.op == "get_attr":
        tensor = traveller.program.tensor(str(value.target))
        return None if tensor is None else tensor.dtype
    call = read_call(traveller.program, value)
    if call is None or call.hooked:
        return None
    if call.kind is Kind.CAST:
        return _cast_to(call)
    if isinstance(asked := call.options.get("dtype"), torch.dtype):
        return asked
    weight = call.tensor("weight") if call.kind.is_linear or call.kind is Kind.EMBEDDING else None
    return None if weight is None else weight.dtype
