"""The list of all batch-norm call sites of a model, made before the passes and settled after."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.modules.instancenorm import _InstanceNorm

from bnfuse.report.reasons import Decline, decline
from bnfuse.report.report import Report, Row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import fx, nn

    from bnfuse.graph import Program
    from bnfuse.passes import Applied, PassReport


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
class Settled:
    """What happened in one part of a model."""

    folded: tuple[Row, ...] = ()
    merged: tuple[Row, ...] = ()
    kept: tuple[Row, ...] = ()
    extra_bytes: int = 0
    fused: tuple[Row, ...] = ()

    def without(self, names: frozenset[str]) -> Settled:
        """Return what happened to all others than the layers of these names."""
        lists = (self.folded, self.merged, self.kept)
        rest = [tuple(row for row in rows if row.name not in names) for rows in lists]
        return Settled(rest[0], rest[1], rest[2], self.extra_bytes, self.fused)

    def joined(self, other: Settled) -> Settled:
        """Return what happened here and there."""
        return Settled(
            self.folded + other.folded,
            self.merged + other.merged,
            self.kept + other.kept,
            self.extra_bytes + other.extra_bytes,
            self.fused + other.fused,
        )

    @property
    def gone(self) -> int:
        """How many batch norms are folded or merged."""
        return len(self.folded) + len(self.merged)

    @property
    def is_missed(self) -> bool:
        """Whether there is a batch norm that no graph shows."""
        return any(row.reason == "not-captured" for row in self.kept)


@dataclass(frozen=True, slots=True)
class Inventory:
    """All batch-norm call sites of a model, or of a part of it.

    Attributes:
        sites: The call sites.
        path: The part's path in the model, which its names start with.
    """

    sites: tuple[Site, ...]
    path: str = ""

    @classmethod
    def of_program(cls, program: Program, path: str = "") -> Inventory:
        """List the call sites in a graph, and the batch norms inside TorchScript it calls."""
        sites = [site for node in program.graph.nodes for site in _sites_at(program, node)]
        return cls(tuple(sites), path)

    @classmethod
    def of_modules(cls, model: nn.Module, path: str = "") -> Inventory:
        """List the batch-norm layers of a module without a graph."""
        layers = [(n, m) for n, m in model.named_modules() if is_norm(m)]
        names = [name or ("" if path else type(m).__name__) for name, m in layers]
        return cls(tuple(Site(name, name) for name in names), path)

    def all_kept(self, code: str, facts: str = "") -> Settled:
        """Return the outcome where nothing was done, for one reason."""
        return Settled(
            kept=tuple(
                self._kept(site, decline(code, self._full(site.name), facts)) for site in self.sites
            )
        )

    def settled(self, results: Sequence[PassReport]) -> Settled:
        """Return the outcome after the passes, each call site in one list."""
        fused = tuple(self._fused(r.by, a) for r in results if _fuses(r.by) for a in r.applied)
        done = {a.site: (r.by, a) for r in results for a in r.applied if a.into is not None}
        gone = done.keys() | {a.site for r in results for a in r.applied if a.into is None}
        reasons = {d.site: d.reason for r in results for d in r.declined}
        reasons.update({s.site: s.reason for s in self.sites if s.reason})
        moved = {a.name: a.into for r in results for a in r.applied if a.into and _merges(r.by)}
        rows = [
            Row(
                self._full(a.name),
                self._full(a.site),
                self._full(_last(a.into, moved)),
                by,
                a.error,
            )
            for by, a in (done[s.site] for s in self.sites if s.site in done)
        ]
        folded = tuple(row for row in rows if not _is_merge(row))
        merged = tuple(row for row in rows if _is_merge(row))
        kept = tuple(self._kept(s, reasons[s.site]) for s in self.sites if s.site not in gone)
        extra = sum(applied.extra_bytes for _, applied in done.values())
        return Settled(folded, merged, kept, extra, fused)

    def _fused(self, by: str, applied: Applied) -> Row:
        name, site, into = map(self._full, (applied.name, applied.site, applied.into or ""))
        return Row(name, site, into, by, applied.error)

    def _kept(self, site: Site, reason: Decline) -> Row:
        facts = asdict(reason)
        code = facts.pop("code")
        return Row(self._full(site.name), self._full(site.site), reason=code, **facts)

    def _full(self, name: str) -> str:
        return f"{self.path}.{name}" if self.path and name else self.path or name


def not_captured(name: str, obstacle: str) -> Settled:
    """Return the outcome of a batch norm that is called by a forward without a graph."""
    return Inventory((Site(name, name),)).all_kept("not-captured", obstacle)


def summed(model: str, outcomes: Sequence[Settled], previous: Report | None) -> Report:
    """Return the report of a model from what happened in its parts.

    Args:
        model: The class name of the model.
        outcomes: What happened in each part.
        previous: The report of an earlier optimization, whose folds still stand.
    """
    folded = tuple(row for outcome in outcomes for row in outcome.folded)
    merged = tuple(row for outcome in outcomes for row in outcome.merged)
    kept = tuple(row for outcome in outcomes for row in outcome.kept)
    fused = tuple(row for outcome in outcomes for row in outcome.fused)
    extra = sum(outcome.extra_bytes for outcome in outcomes)
    if previous is not None:
        seen = {row.name for row in folded + merged + kept}
        folded, merged = previous.folded + folded, previous.merged + merged
        kept = tuple(row for row in previous.kept if row.name not in seen) + kept
        fused = previous.fused + fused
        extra += previous.extra_bytes
    names = {row.name: row.into for row in folded + merged if row.into}
    return Report(model, folded, merged, fused, kept, name_map=names, extra_bytes=extra)


def _is_merge(row: Row) -> bool:
    return row.by is not None and _merges(row.by)


def _merges(by: str) -> bool:
    """Whether a pass makes one layer of several."""
    return by.startswith("merge")


def _fuses(by: str) -> bool:
    """Whether a pass makes one kernel call of several."""
    return by.startswith("fuse")


def _last(into: str | None, moved: dict[str, str]) -> str:
    """Return the layer that does the work now: what absorbed a batch norm may have merged since."""
    name, seen = into or "", {into}
    while name in moved and moved[name] not in seen:
        name = moved[name]
        seen.add(name)
    return name


def is_norm(module: nn.Module) -> bool:
    """Whether a layer is a batch norm, or an instance norm that acts as one in eval mode."""
    has_statistics = isinstance(module, _InstanceNorm) and module.running_mean is not None
    return isinstance(module, _BatchNorm) or has_statistics


def _sites_at(program: Program, node: fx.Node) -> list[Site]:
    """Return the batch norm called at a node, or those inside the TorchScript it calls."""
    from bnfuse.ops import Kind, read_call

    call = read_call(program, node)
    if call is not None and call.kind is Kind.BATCH_NORM:
        return [Site(call.name, node.name)]
    if node.op != "call_module":
        return []
    path = str(node.target)
    module = program.module(path)
    if isinstance(module, _BatchNorm) and type(module).__module__.startswith("torch.nn."):
        reason = decline("computed-constants", path, "those of its parametrizations")
        return [Site(path, node.name, reason)]
    if isinstance(module, _BatchNorm) and type(module).__module__.startswith("torch.ao."):
        return [Site(path, node.name, decline("odd-constants", path, f"{path} is quantized"))]
    if not isinstance(module, torch.jit.ScriptModule):
        return []
    inner = [n for n, m in module.named_modules() if "BatchNorm" in str(m.original_name)]
    return [
        _opaque(f"{path}.{n}" if n else path, f"{node.name}.{n}" if n else node.name, path)
        for n in inner
    ]


def _opaque(name: str, site: str, path: str) -> Site:
    return Site(name, site, decline("inside-opaque-call", name, path))
