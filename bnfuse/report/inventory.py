"""The list of all batch-norm call sites of a model, made before the passes and settled after."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from torch.nn.modules.batchnorm import _BatchNorm

from bnfuse.report.reasons import Decline, decline
from bnfuse.report.report import Report, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx, nn

    from bnfuse.graph import Program
    from bnfuse.passes import PassReport


@dataclass(frozen=True, slots=True)
class Site:
    """One batch-norm call site.

    Attributes:
        name: The qualified name of the layer.
        site: The name of the call site in the graph.
        reason: Why no pass can reach it, where that is known from the start.
    """

    name: str
    site: str
    reason: Decline | None = None


@dataclass(frozen=True, slots=True)
class Inventory:
    """All batch-norm call sites of a model."""

    model: str
    sites: tuple[Site, ...]

    @classmethod
    def of_program(cls, program: Program) -> Inventory:
        """List the call sites in a graph, and the batch norms inside calls it cannot see into."""
        sites = [site for node in program.graph.nodes for site in _sites_at(program, node)]
        return cls(type(program.root).__name__, tuple(sites))

    @classmethod
    def of_modules(cls, model: nn.Module) -> Inventory:
        """List the batch-norm layers of a model without a graph."""
        sites = [
            Site(name or type(model).__name__, name or type(model).__name__)
            for name, module in model.named_modules()
            if isinstance(module, _BatchNorm)
        ]
        return cls(type(model).__name__, tuple(sites))

    @property
    def names(self) -> tuple[str, ...]:
        """The names of the layers."""
        return tuple(site.name for site in self.sites)

    def kept_whole(self, code: str, facts: str) -> Report:
        """Return the report of a model in which nothing was done, for one reason."""
        kept = tuple(_kept(site, decline(code, site.name, facts)) for site in self.sites)
        return Report(self.model, kept=kept)

    def settled(self, results: Sequence[PassReport], previous: Report | None) -> Report:
        """Return the report after the passes, each call site in one list.

        Args:
            results: What each pass did, in order.
            previous: The report of an earlier optimization, whose folds still stand.
        """
        folded = {
            done.site: Row(done.name, done.site, done.into, result.by)
            for result in results
            for done in result.applied
            if done.into is not None
        }
        reasons = {d.site: d.reason for result in results for d in result.declined}
        reasons.update({site.site: site.reason for site in self.sites if site.reason})
        kept = tuple(_kept(s, reasons[s.site]) for s in self.sites if s.site not in folded)
        rows = tuple(folded[s.site] for s in self.sites if s.site in folded)
        earlier = previous.folded if previous else ()
        return Report(
            self.model,
            folded=earlier + rows,
            kept=kept,
            name_map={row.name: row.into for row in earlier + rows if row.into},
            extra_bytes=(previous.extra_bytes if previous else 0)
            + sum(done.extra_bytes for result in results for done in result.applied),
        )


def _kept(site: Site, reason: Decline) -> Row:
    facts = asdict(reason)
    return Row(site.name, site.site, reason=facts.pop("code"), **facts)


def _sites_at(program: Program, node: fx.Node) -> list[Site]:
    """Return the batch norms called at a node or inside it."""
    from bnfuse.ops import Kind, read_call

    call = read_call(program, node)
    if call is not None and call.kind is Kind.BATCH_NORM:
        return [Site(call.name, node.name)]
    if node.op != "call_module":
        return []
    path = str(node.target)
    sites = []
    for inner, module in program.module(path).named_modules():
        if isinstance(module, _BatchNorm):
            name = f"{path}.{inner}" if inner else path
            reason = decline("inside-opaque-call", name, path)
            sites.append(Site(name, f"{node.name}.{inner}" if inner else node.name, reason))
    return sites
