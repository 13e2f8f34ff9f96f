"""Where a graph first states the rank of a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.ops.rank_rules import asserted

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph.program import Program


class StatedRanks:
    """The assertions of a model, and the guards, that state ranks.

    Args:
        program: The program; nodes added to its graph later are not known.
    """

    def __init__(self, program: Program) -> None:
        self._ranks = program.shapes.ranks
        self._first: dict[fx.Node, tuple[fx.Node, fx.Node, int]] = {}
        for node in program.graph.nodes if self._ranks.hold else ():
            for value, rank in asserted(node):
                root, _ = self._ranks.counted_from(value)
                self._first.setdefault(root, (node, value, rank))

    def first(self, value: fx.Node) -> tuple[fx.Node, int] | None:
        """Return the first node that raises for all ranks of a value but one, and that one."""
        root, _ = self._ranks.counted_from(value)
        if root not in self._first:
            return None
        node, stated, rank = self._first[root]
        implied = self._ranks.implied(value, stated, rank)
        return None if implied is None else (node, implied)
