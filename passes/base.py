"""What a pass is, and the runner that holds every pass to it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from bnfuse.report import decline

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from bnfuse.graph import Program
    from bnfuse.ops import Call
    from bnfuse.regions import PartChecks, RewriteKey
    from bnfuse.report import Decline


@dataclass(frozen=True, slots=True)
class Applied:
    """One rewrite that was made.

    Attributes:
        name: The qualified name of the layer that went.
        site: The name of its call site in the graph.
        into: The layer that does its work now, or None where nothing has to.
        extra_bytes: Bytes of weights added, for a layer that was shared.
        error: The largest relative error of the rewrite in float64; None where it was not measured.
    """

    name: str
    site: str
    into: str | None
    extra_bytes: int = 0
    error: float | None = None


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
        """The names of all layers that the rewrite would change: that one, if no more are told."""
        return (self.name,)

    @property
    def ranks(self) -> tuple[tuple[fx.Node, int], ...]:
        """Values with the ranks that a guard makes sure of: none, unless told otherwise."""
        return ()

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The operations that the rewrite would change, or move something through."""


@dataclass(frozen=True, slots=True, eq=False)
class PairMatch(Match):
    """Two layers of which one reads the other.

    Attributes:
        first: The one that the rewrite is about.
        second: The one that reads its result.
    """

    first: Call
    second: Call

    @property
    def name(self) -> str:
        """The qualified name of the first."""
        return self.first.name

    @property
    def layers(self) -> tuple[str, ...]:
        """Both layers."""
        return (self.first.name, self.second.name)

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The operations that change."""
        return (self.first.node, self.second.node)


class Pass(Protocol):
    """A rewrite of call sites: find them, say why not, or do it.

    A pass holds no state. The facts of a call site travel in the match.

    Attributes:
        name: The name of the pass.
        is_exact: Whether what it does is equal on real numbers, so that float64 shows it; else it
            computes in the dtypes of the model, as the model does.
    """

    name: ClassVar[str]
    is_exact: ClassVar[bool]

    def match(self, program: Program, node: fx.Node) -> Any | None:
        """Return the facts of a call site the pass is about, or None."""

    def reason_to_decline(self, program: Program, match: Any) -> Decline | None:
        """Return why the call site has to stay as it is, or None."""

    def rewrite(self, program: Program, match: Any) -> Applied | tuple[Applied, ...] | Declined:
        """Change the graph; declines only where the new weights themselves turn out unusable.

        Where several layers go at once there is a row for each.
        """


def run_pass(
    program: Program,
    one: Pass,
    is_skipped: Callable[[str], bool] = lambda _: False,
    checks: PartChecks | None = None,
) -> PassReport:
    """Run a pass over every node of the graph, in order, and check the graph it leaves.

    Args:
        program: The program, edited in place.
        one: The pass.
        is_skipped: Whether a layer, given by name, is to be left alone.
        checks: Checks each rewrite; None to check none.

    Raises:
        BrokenRewriteError: A rewrite raised, which was not known. The graph is of no more use.
    """
    if program.is_edited:
        program.refresh()
    with program.reading():
        result = _run(program, one, is_skipped, checks)
    program.replacements.settle()
    if program.is_edited:
        program.graph.lint()
    return result


def _run(
    program: Program,
    one: Pass,
    is_skipped: Callable[[str], bool],
    checks: PartChecks | None,
) -> PassReport:
    applied: list[Applied] = []
    declined: list[Declined] = []
    for node in list(program.graph.nodes):
        if node._erased:
            continue  # with what was rewritten before it
        site = node.name
        try:
            outcome = _at(program, one, node, is_skipped, checks)
        except Exception as error:
            if checks is None:
                raise
            why = checks.broken(checks.key(one.name, site), error)
            outcome = Declined(site, site, decline("check-failed", site, why))
        if outcome is None:
            continue
        if isinstance(outcome, Declined):
            declined.append(outcome)
        else:
            applied += outcome if isinstance(outcome, tuple) else (outcome,)
    return PassReport(one.name, tuple(applied), tuple(declined))


def _at(
    program: Program,
    one: Pass,
    node: fx.Node,
    is_skipped: Callable[[str], bool],
    checks: PartChecks | None,
) -> Applied | tuple[Applied, ...] | Declined | None:
    """Rewrite one call site, or say why it stays; None where the pass is not about it."""
    match: Match | None = one.match(program, node)
    if match is None:
        return None
    site = node.name
    if any(is_skipped(name) for name in match.layers):
        return Declined(match.name, site, decline("skipped", match.name))
    reason = one.reason_to_decline(program, match)
    if reason is not None:
        return Declined(match.name, site, reason)
    if checks is None:
        return _rewritten(program, one, match)
    return _checked(program, one, match, checks.key(one.name, site), checks)


def _checked(
    program: Program, one: Pass, match: Match, key: RewriteKey, checks: PartChecks
) -> Applied | tuple[Applied, ...] | Declined:
    """Rewrite one call site unless that is known to be wrong, and note how right it is."""
    refused = checks.refusal(key)
    if refused is not None:
        return Declined(match.name, key.site, decline("check-failed", match.name, refused))
    before = checks.before(program, match, key, is_exact=one.is_exact)
    if before is None:
        return Declined(match.name, key.site, decline("not-checkable", match.name))
    outcome = _rewritten(program, one, match)
    if isinstance(outcome, Declined):
        return outcome
    error = checks.after(program, before, key)
    rows = outcome if isinstance(outcome, tuple) else (outcome,)
    return tuple(replace(row, error=error) for row in rows)


def _rewritten(
    program: Program, one: Pass, match: Match
) -> Applied | tuple[Applied, ...] | Declined:
    with program.editing():
        return one.rewrite(program, match)
