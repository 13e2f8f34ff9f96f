"""What a pass is, and the runner that holds every pass to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from bnfuse.report import decline

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from bnfuse.graph import Program
    from bnfuse.report import Decline


@dataclass(frozen=True, slots=True)
class Applied:
    """One rewrite that was made.

    Attributes:
        name: The qualified name of the layer that went.
        site: The name of its call site in the graph.
        into: The layer that does its work now, or None where nothing has to.
        extra_bytes: Bytes of weights added, for a layer that was shared.
    """

    name: str
    site: str
    into: str | None
    extra_bytes: int = 0


@dataclass(frozen=True, slots=True)
class Declined:
    """One call site that a pass looked at and left, with the reason."""

    name: str
    site: str
    reason: Decline


@dataclass(frozen=True, slots=True)
class PassReport:
    """What one pass did."""

    by: str
    applied: tuple[Applied, ...]
    declined: tuple[Declined, ...]

    @property
    def modified(self) -> bool:
        """Whether the pass changed the graph."""
        return bool(self.applied)


class Match(Protocol):
    """The facts of one call site, frozen; each pass has its own kind."""

    @property
    def name(self) -> str:
        """The qualified name of the layer the rewrite is about."""

    @property
    def layers(self) -> tuple[str, ...]:
        """The names of all layers that the rewrite would change."""


class Pass(Protocol):
    """A rewrite of call sites: find them, say why not, or do it.

    A pass holds no state. The facts of a call site travel in the match.
    """

    name: ClassVar[str]

    def match(self, program: Program, node: fx.Node) -> Any | None:
        """Return the facts of a call site the pass is about, or None."""

    def reason_to_decline(self, program: Program, match: Any) -> Decline | None:
        """Return why the call site has to stay as it is, or None."""

    def rewrite(self, program: Program, match: Any) -> Applied | tuple[Applied, ...] | Declined:
        """Change the graph; declines only where the new weights themselves turn out unusable.

        Where several layers go at once there is a row for each.
        """


def run_pass(
    program: Program, one: Pass, is_skipped: Callable[[str], bool] = lambda _: False
) -> PassReport:
    """Run a pass over every node of the graph, in order, and check the graph it leaves.

    Args:
        program: The program, edited in place.
        one: The pass.
        is_skipped: Whether a layer, given by name, is to be left alone.
    """
    applied: list[Applied] = []
    declined: list[Declined] = []
    program.refresh()
    for node in list(program.graph.nodes):
        if node._erased:
            continue  # with what was rewritten before it
        match: Match | None = one.match(program, node)
        if match is None:
            continue
        outcome = _outcome(program, one, match, node.name, is_skipped)
        if isinstance(outcome, Declined):
            declined.append(outcome)
        else:
            applied += outcome if isinstance(outcome, tuple) else (outcome,)
    program.graph.lint()
    return PassReport(one.name, tuple(applied), tuple(declined))


def _outcome(
    program: Program, one: Pass, match: Match, site: str, is_skipped: Callable[[str], bool]
) -> Applied | tuple[Applied, ...] | Declined:
    """Rewrite one call site, or say why it stays."""
    if any(is_skipped(name) for name in match.layers):
        return Declined(match.name, site, decline("skipped", match.name))
    reason = one.reason_to_decline(program, match)
    if reason is not None:
        return Declined(match.name, site, reason)
    return one.rewrite(program, match)
