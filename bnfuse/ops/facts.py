"""What follows for a value of a graph from its call, and from the same of the values it is of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import fx

    from bnfuse.graph.program import Program

Fact = TypeVar("Fact")


class Facts(Generic[Fact]):
    """One fact about each value, found out when it is asked for.

    Each value is looked at once, so that what is asked about all of them takes time in proportion
    to the graph. A fact is no tuple: a tuple is of the values that one follows from.

    Args:
        program: The program.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._known: dict[fx.Node, Fact] = {}

    def of(self, node: fx.Node) -> Fact:
        """Return the fact about a value."""
        pending = [node]
        while pending:
            current = pending.pop()
            if current in self._known:
                continue
            found = self.follows(current)
            if not isinstance(found, tuple):
                self._known[current] = found
            elif unknown := [value for value in found if value not in self._known]:
                pending += [current, *unknown]  # it comes again, after them
            else:
                self._known[current] = self.joined(current, (self._known[value] for value in found))
        return self._known[node]

    def follows(self, node: fx.Node) -> Fact | tuple[fx.Node, ...]:
        """Return the fact, or the values that it follows from, which stand before this one."""
        raise NotImplementedError

    def joined(self, node: fx.Node, facts: Iterable[Fact]) -> Fact:
        """Return the fact about a value from the facts about those others."""
        raise NotImplementedError
