"""Which dtypes the values of a graph may have."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from bnfuse.ops.calls import Call, read_call
from bnfuse.ops.facts import Facts
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

Dtypes = frozenset[torch.dtype]
_CASTS = {
    "float": torch.float32, "half": torch.float16, "double": torch.float64,
    "bfloat16": torch.bfloat16,
}  # fmt: skip
FLOATING: Dtypes = frozenset(_CASTS.values())
UNKNOWN: Dtypes = frozenset()


class PossibleDtypes(Facts[Dtypes]):
    """The dtypes, all of them floating-point ones, of which a value has one; none if not known."""

    def follows(self, node: fx.Node) -> Dtypes | tuple[fx.Node, ...]:
        """Return them where a node fixes them by itself, else its operands."""
        recorded = getattr(node.meta.get("val"), "dtype", None)
        if isinstance(recorded, torch.dtype):
            return _only(recorded)
        if node.op == "get_attr":
            tensor = self.program.tensor(str(node.target))
            return UNKNOWN if tensor is None else _only(tensor.dtype)
        call = read_call(self.program, node)
        if call is None or call.hooked:
            return UNKNOWN
        stated = _stated(call)
        if stated is not None or _may_change(call):
            return UNKNOWN if stated is None else _only(stated)
        return tuple(operand for operand in call.operands if isinstance(operand, fx.Node))

    def joined(self, node: fx.Node, facts: Iterable[Dtypes]) -> Dtypes:
        """Return the dtypes of the operands, and those that arithmetic makes of two of them.

        A batch norm accepts nothing but floating-point numbers and returns what it is given.
        """
        each = list(facts)
        found = frozenset[torch.dtype]().union(*each) if all(each) else UNKNOWN
        if not found:
            call = read_call(self.program, node)
            return FLOATING if call is not None and call.kind is Kind.BATCH_NORM else UNKNOWN
        return found.union(torch.promote_types(one, other) for one in found for other in found)


def cast_to(call: Call) -> torch.dtype | None:
    """Return the dtype that a cast asks for; None where it asks for a device, or computes it."""
    asked = _CASTS.get(call.spelling, call.options["dtype"])
    is_plain = call.options["non_blocking"] in (False, True)  # else to(device, dtype)
    return asked if isinstance(asked, torch.dtype) and is_plain else None


def _stated(call: Call) -> torch.dtype | None:
    """Return the dtype that a call fixes by itself, or None where it follows from its inputs'."""
    if call.kind is Kind.CAST:
        return cast_to(call)
    if isinstance(asked := call.options.get("dtype"), torch.dtype):
        return asked
    weight = call.tensor("weight") if call.kind.is_linear or call.kind is Kind.EMBEDDING else None
    return None if weight is None else weight.dtype


def _may_change(call: Call) -> bool:
    """Whether the dtype of a result may be none of the operands': indices, views, casts, bounds."""
    shape = call.options.get("shape")
    parts = shape if isinstance(shape, list | tuple) else (shape,)
    return (
        call.kind is Kind.CAST
        or call.is_broadcast  # with a tensor as its bound
        or call.options.get("dtype") is not None
        or bool(call.options.get("return_indices"))
        or any(isinstance(part, torch.dtype) for part in parts)
    )


def _only(dtype: torch.dtype) -> Dtypes:
    return frozenset({dtype}) & FLOATING
