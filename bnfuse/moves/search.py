"""Find where an affine can go: up into what makes its input, or down into all that read it.

The search walks operation by operation. At each one a rule of ``bnfuse.moves.rules`` says how the
affine looks on the other side, or that it is absorbed there, or that it cannot go on. A search ends
well where every branch of the walk ends in an operation that absorbs; nothing is changed before
that.

- Up, a value may be passed only if nothing else reads it: another reader would see it changed.
- Down, all readers of the affine's result have to take it, since it is gone afterwards, and none
  may write in place, since it would write what the affine read.

A rule may offer several ways, such as either arm of a sum for the shift; they are tried in order.
The number of operations looked at is bounded, so that the cost of all searches grows with the
graph alone.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import TYPE_CHECKING

from bnfuse.graph.readers import value_readers
from bnfuse.moves.clamps import is_in_place, is_replaceable
from bnfuse.moves.rules import RULES
from bnfuse.moves.step import Edit, Moved
from bnfuse.ops.calls import layer_name, read_call
from bnfuse.ops.table import Kind
from bnfuse.report.reasons import Decline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from torch import fx

    from bnfuse.affine import Affine
    from bnfuse.moves.step import Clamp, Traveller
    from bnfuse.ops import Call

MOST_STEPS = 64
"""How many operations one search looks at before it gives up."""


@dataclass(slots=True)
class Plan:
    """Where an affine goes.

    Attributes:
        edits: New tensors for the operations that absorb it.
        ranks: Values and the ranks they are taken to have.
        passed: The operations it passes on the way.
        clamps: New bounds for clamps that it passes.
    """

    edits: list[Edit] = field(default_factory=list)
    ranks: list[tuple[fx.Node, int]] = field(default_factory=list)
    passed: list[fx.Node] = field(default_factory=list)
    clamps: list[Clamp] = field(default_factory=list)

    def add(self, moved: Moved, call: Call) -> None:
        """Take in one step."""
        self.edits += moved.edits
        self.ranks += moved.ranks
        self.passed.append(call.node)
        self.clamps += moved.clamps

    def reset(self, counts: tuple[int, int, int, int]) -> None:
        """Go back to where the plan was."""
        edits, ranks, passed, clamps = counts
        del self.edits[edits:], self.ranks[ranks:], self.passed[passed:], self.clamps[clamps:]

    @property
    def counts(self) -> tuple[int, int, int, int]:
        """How far the plan is."""
        return len(self.edits), len(self.ranks), len(self.passed), len(self.clamps)


@dataclass(slots=True)
class Search:
    """One search for one affine.

    Attributes:
        traveller: The affine's origin and what is known about the graph.
        plan: What has been found so far.
        steps: How many operations have been looked at.
    """

    traveller: Traveller
    plan: Plan = field(default_factory=Plan)
    steps: int = 0

    def up(self, value: fx.Node, affine: Affine, reader: fx.Node) -> Decline | None:
        """Move an affine on ``value`` into what makes it; only ``reader`` may read the value.

        Returns:
            None where the plan is complete, or what stands in the way.
        """
        call = read_call(self.traveller.program, value)
        if call is None or call.hooked:
            return self._no_rule(value, call, "no-linear-producer")
        others = (r.name for r in value_readers(value) if r is not reader)
        if first := list(islice(others, 3)):
            facts = f"{call.name}, is also read by {', '.join(first)}"
            return self.traveller.decline("several-readers", facts)
        rule = RULES.get(call.kind)
        ways = rule.up(self.traveller, call, affine) if rule else ()
        if not ways:
            return self._no_rule(value, call, "no-linear-producer")
        if isinstance(ways, Decline):
            return ways
        is_piece = call.kind is Kind.ITEM and isinstance(call.options["index"], int)
        via = call.input if is_piece else call.node

        def go(moved: Moved) -> Decline | None:
            return self._first(self.up(source, own, via) for source, own in moved.onward)

        return self._try(call, ways, go)

    def down(self, value: fx.Node, affine: Affine) -> Decline | None:
        """Move an affine whose result is ``value`` into everything that reads it.

        Returns:
            None where the plan is complete, or what stands in the way.
        """
        readers = value_readers(value)
        return self._first(self._down_into(reader, value, affine) for reader in readers)

    def _down_into(self, reader: fx.Node, value: fx.Node, affine: Affine) -> Decline | None:
        call = read_call(self.traveller.program, reader)
        if call is None or call.hooked:
            return self._no_rule(reader, call, "no-linear-reader")
        if is_in_place(call) and not is_replaceable(self.traveller, call, value):
            return self._no_rule(reader, call, "no-linear-reader")
        if value not in call.operands:
            return self.traveller.decline("no-linear-reader", f"an argument of {call.name}")
        rule = RULES.get(call.kind)
        ways = rule.down(self.traveller, call, value, affine) if rule else ()
        if not ways:
            return self._no_rule(reader, call, "no-linear-reader")
        if isinstance(ways, Decline):
            return ways

        def go(moved: Moved) -> Decline | None:
            return self._first(self.down(result, own) for result, own in moved.onward)

        return self._try(call, ways, go)

    def _try(
        self, call: Call, ways: tuple[Moved, ...], go: Callable[[Moved], Decline | None]
    ) -> Decline | None:
        """Take the first way that leads to an end."""
        obstacle: Decline | None = None
        for moved in ways:
            self.steps += 1
            if self.steps > MOST_STEPS:
                return self.traveller.decline(
                    "no-linear-producer", f"more than {MOST_STEPS} steps away"
                )
            if call.node in self.plan.passed:
                return self.traveller.decline("no-linear-producer", f"{call.name} in two ways")
            before = self.plan.counts
            self.plan.add(moved, call)
            found = go(moved)
            if found is None:
                return None
            obstacle = obstacle or found
            self.plan.reset(before)
        return obstacle

    @staticmethod
    def _first(outcomes: Iterable[Decline | None]) -> Decline | None:
        """Return the first obstacle, without looking further."""
        return next((outcome for outcome in outcomes if outcome is not None), None)

    def _no_rule(self, node: fx.Node, call: Call | None, code: str) -> Decline:
        if call is not None and call.hooked:
            return self.traveller.decline("hooked", call.name)
        return self.traveller.decline(code, described(self.traveller, node))


def described(traveller: Traveller, node: fx.Node) -> str:
    """Return what a node computes, in words a user of the model knows."""
    if node.op == "placeholder":
        return f"the input {node.target!r}"
    if node.op == "output":
        return "the output"
    if node.op == "call_module":
        return f"{node.target} ({type(traveller.program.module(str(node.target))).__name__})"
    return f"{getattr(node.target, '__name__', node.target)} in {layer_name(node)}"
