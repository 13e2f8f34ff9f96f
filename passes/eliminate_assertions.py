"""Remove assertions of ranks that an earlier one implies.

::

    x ── conv ─┬─ relu ── conv ─┬─ relu ── y           x ── conv ─┬─ relu ── conv ── relu ── y
               └─ ndim == 4 ?   └─ ndim == 4 ?                    └─ ndim == 4 ?

A layer that asserts how many dimensions its input has leaves the assertion behind when it is
folded, such as each batch norm of timm: two of three operations of EfficientNet's graph ask for a
rank. A convolution keeps the number of dimensions, ``flatten(0, 1)`` takes one away, and so on
through the graph (``bnfuse/ops/ranks.py``), so that one number tells the others::

    rank(a) = rank(x) + i,  rank(b) = rank(x) + j:    rank(a) = r  <=>  rank(b) = r - i + j

The first of them in the order of the graph stays. It raises for every call that a later one would
raise for, and comes before it, as it did in the model. The guards that folds put in are removed
likewise.

Left alone, silently, since an assertion is no mistake:

1. nothing before it states a rank that is related, or it contradicts what is stated;
2. a rank is below 2: values of none are an exception to some relations, a mean over an axis is one;
3. some value gets another rank in place, or may, since code runs that is not known.

Source: ``torch._assert``, and the relations of ``bnfuse/ops/ranks.py``.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from torch import fx

from bnfuse.graph.guards import assume_rank, check_rank
from bnfuse.graph.readers import reads_metadata_only
from bnfuse.ops.rank_rules import asserted
from bnfuse.passes import base
from bnfuse.passes.base import Applied

if TYPE_CHECKING:
    from bnfuse.graph import Program
    from bnfuse.report import Decline


@dataclass(frozen=True, slots=True, eq=False)
class Match(base.Match):
    """An assertion that can raise no more.

    Attributes:
        assertion: It.
        value: The value whose rank it is about.
    """

    assertion: fx.Node
    value: fx.Node

    @property
    def name(self) -> str:
        """The name of the assertion in the graph."""
        return self.assertion.name

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """None: an assertion computes no value that could be checked."""
        return ()


@dataclass(frozen=True, slots=True)
class EliminateAssertions:
    """The pass; what it does is in the description of this module."""

    name: ClassVar[str] = "eliminate-assertions"
    is_exact: ClassVar[bool] = True

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the assertion at ``node`` where an earlier one implies it."""
        for value, rank in asserted(node):
            found = program.stated_ranks.first(value)
            if found is not None and found[0] is not node and found[1] == rank:
                return Match(node, value)
        return None

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return None: what is not implied is no match."""
        return None

    def rewrite(self, program: Program, match: Match) -> Applied:
        """Remove the assertion, and every question that only it asked, or nothing does."""
        pending = [match.assertion]
        while pending:
            node = pending.pop()
            sources = [source for source in node.all_input_nodes if _is_question(source)]
            program.erase(node)
            pending += [source for source in sources if not source.users]
        for reader in list(match.value.users):
            if not reader.users and _is_question(reader):
                program.erase(reader)  # was part of the message
        return Applied(match.name, match.assertion.name, into=None)


def _is_question(node: fx.Node) -> bool:
    """Whether a node asks for a rank and does nothing else, or compares what was asked for."""
    is_guard = node.target in (assume_rank, check_rank)
    return node.target is operator.eq or (reads_metadata_only(node) and not is_guard)
