"""Remove reshapes that undo others: back to a shape that the value had before.

::

    x ── linear ── flatten(0, 1) ── reshape_as(linear) ── y        before
    x ── linear ── y                                               after

A reshape keeps the elements in their order, so a row of them that ends in the shape it began with
returns the value that it began with. Such rows are what is left of a batch norm on the last axis,
which PyTorch normalizes flattened, once it is folded.

Declined, silently, since a reshape is no mistake:

1. the shapes are not proven to be equal, or hooks run on the way;
2. something may write into the value or into what shares its memory: a reshape may be a copy;
3. the value may be laid out another way than a fresh one, and a view of the result is taken, or
   the caller may get the result: a copy shares no memory with anything.

Guards of ranks on the values between go to the value in front.

Source: the order of elements that ``torch.reshape`` documents.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import fx

from bnfuse.graph import assume_rank
from bnfuse.graph.readers import reads_metadata_only, value_readers
from bnfuse.moves.strides import is_contiguous, layout_matters
from bnfuse.ops import Call, Kind, read_call
from bnfuse.ops.fresh import may_be_returned
from bnfuse.ops.rank_rules import shaped_like
from bnfuse.passes import base
from bnfuse.passes.base import Applied

if TYPE_CHECKING:
    from bnfuse.graph import Program
    from bnfuse.report import Decline

_MOST_RESHAPES = 8


@dataclass(frozen=True, slots=True, eq=False)
class Match(base.Match):
    """A row of reshapes.

    Attributes:
        calls: The reshapes, the last one first.
        value: What the first one is applied to.
    """

    calls: tuple[Call, ...]
    value: fx.Node

    @property
    def name(self) -> str:
        """The layer that the last one is of."""
        return self.calls[0].name

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The reshapes."""
        return tuple(call.node for call in self.calls)


@dataclass(frozen=True, slots=True)
class EliminateReshapes:
    """The pass; what it does is in the description of this module."""

    name: ClassVar[str] = "eliminate-reshapes"
    is_exact: ClassVar[bool] = True

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the reshapes that the one at ``node`` undoes, itself included."""
        calls: list[Call] = []
        current = node
        while len(calls) < _MOST_RESHAPES:
            call = read_call(program, current)
            if call is None or call.kind is not Kind.RESHAPE or call.hooked:
                return None
            calls.append(call)
            current = call.input
            if _has_shape_of(program, calls[0], current):
                match = Match(tuple(calls), current)
                return match if _may_share_memory(program, match) else None
        return None

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return None: what is no identity is no match."""
        return None

    def rewrite(self, program: Program, match: Match) -> Applied:
        """Let every reader read the value, and remove the reshapes that nothing reads any more."""
        program.written_values.join(match.nodes[0], match.value)
        program.replace(match.nodes[0], match.value)
        for node in match.nodes:
            if any(value_readers(node)):
                break
            _move_guards(program, node, match.value)
            if node.users:
                break  # its shape is asked for
            asked = [source for source in node.all_input_nodes if reads_metadata_only(source)]
            program.erase(node)
            for source in asked:
                if not source.users:
                    program.erase(source)
        return Applied(match.name, match.nodes[0].name, into=None)


def _has_shape_of(program: Program, last: Call, value: fx.Node) -> bool:
    """Whether a reshape gives a value the shape that another one has."""
    if shaped_like(last) is value:
        return True
    mine, theirs = program.shapes.of(last.node), program.shapes.of(value)
    return mine is not None and mine == theirs


def _may_share_memory(program: Program, match: Match) -> bool:
    """Whether readers of the result may read the value in its place, whichever was a copy."""
    written = program.written_values
    last = match.nodes[0]
    if last in written or match.value in written:
        return False
    if is_contiguous(program, match.value):
        return True  # each of the reshapes is a view
    return not layout_matters(program, last) and not may_be_returned(program, last)


def _move_guards(program: Program, node: fx.Node, value: fx.Node) -> None:
    """Let guards of a node's rank guard that of the value in front, where the one tells the other.

    A reshape relates the ranks where it merges or adds a known number of axes.
    """
    for user in list(node.users):
        if user.target is assume_rank:
            guarded, *rest = user.args[1:]
            rank = program.shapes.ranks.implied(value, node, int(str(guarded)))
            if rank is not None:
                user.args = (value, rank, *rest)
