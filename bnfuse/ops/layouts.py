"""Which values of a graph are laid out in memory as a batch norm lays out its result.

Source: ``reorder_dimensions`` in ``aten/src/ATen/TensorIterator.cpp``: all that goes element by
element keeps the order of the axes, that of the first operand which has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from bnfuse.ops.calls import read_call
from bnfuse.ops.facts import Facts
from bnfuse.ops.fresh import makes_new
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Iterable

_IN_ORDER = frozenset(
    {
        Kind.ADD, Kind.SUBTRACT, Kind.MULTIPLY, Kind.DIVIDE, Kind.NEGATE, Kind.MAXIMUM,
        Kind.CHOICE, Kind.FILL, Kind.ABSOLUTE, Kind.RECTIFIER, Kind.CLAMP, Kind.GATE,
        Kind.ACTIVATION, Kind.AVERAGE_POOL, Kind.MAX_POOL,
    }
)  # fmt: skip
"""Operations that leave the axes in memory in the order they have, also if that is no format."""


class Formats(Facts[bool]):
    """Whether a value is contiguous or channels last, dense, as a batch norm returns it.

    An answer once given stays right while a pass goes on: nodes are taken in the order of the
    graph, what is asked is asked of values before the affine at hand, and a rewrite there removes
    nothing that stands before it.
    """

    def follows(self, node: fx.Node) -> bool | tuple[fx.Node, ...]:
        """Return the answer, or the operands of what goes element by element.

        A stack has an order of its own.
        """
        call = read_call(self.program, node)
        if call is None or call.hooked or call.kind is Kind.STACK:
            return False
        if call.kind not in _IN_ORDER:
            return makes_new(self.program, node)
        return tuple(o for o in call.operands if isinstance(o, fx.Node) and o.op != "get_attr")

    def joined(self, node: fx.Node, facts: Iterable[bool]) -> bool:  # noqa: ARG002 - as every fact's
        """Return whether all operands have a format."""
        return all(facts)
