"""Where a graph first states the rank of a value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.ops.fresh import runs_unknown_code
from bnfuse.ops.rank_rules import asserted

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph.program import Program

LEAST = 2
"""Values of no axes are an exception to some relations: a mean over an axis leaves them as is."""


class StatedRanks:
    """The assertions of a model, and the guards, that state ranks.

    Nothing is told where a value may get another rank in place: by unknown code, or as an ``out``.

    Args:
        program: The program; nodes added to its graph later are not known.
    """

    def __init__(self, program: Program) -> None:
        self._ranks = program.shapes.ranks
        self._first: dict[fx.Node, tuple[fx.Node, fx.Node, int]] = {}
        nodes = program.graph.nodes
        if not self._ranks.hold or any(_may_reshape(program, node) for node in nodes):
            return
        for node in nodes:
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
        return None if implied is None or min(implied, rank) < LEAST else (node, implied)


def _may_reshape(program: Program, node: fx.Node) -> bool:
    """Whether a node may give a value another rank in a way that its name does not tell."""
    return node.kwargs.get("out") is not None or runs_unknown_code(program, node)
