"""Merge parallel linear branches over one value into one convolution.

::

        ┌─ conv 3×3 ─┐
    x ──┼─ conv 1×1 ─┼─ + ── y        before
        ├─ bn ───────┤
        └────────────┘
    x ── conv 3×3' ── y               after

A batch norm on the input is a pointwise convolution with a group for each channel, and so is the
input itself. Branches whose taps align are the sum of their taps: ``bnfuse.affine.merge`` has the
algebra. Found from the graph alone, through nested sums and differences, whatever class wrote it:
RepVGG, MobileOne, FastViT, RepViT, RepGhost, ACNet, diverse branch blocks.

Declined, silently, since a sum of branches is no mistake:

1. fewer than two branches read the same value, or none of them has tensors of its own;
2. a branch has other readers, hooks, computed or written tensors, or another dtype;
3. an in-place operation may write the value between its readers, or a term before it is added;
4. the branches do not align, or pad in different modes;
5. the merged kernel would multiply more than the branches do together;
6. the sum is laid out as a term that the layer would lay out otherwise, and something shows that.

Source: Ding et al., 2021, https://arxiv.org/abs/2101.03697, section 3.3.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from bnfuse.affine import as_float64, round_once, round_weight
from bnfuse.affine.branch import Branch
from bnfuse.affine.merge import merged_branches
from bnfuse.graph import guard_rank
from bnfuse.graph.readers import reads_metadata_only
from bnfuse.moves.strides import is_laid_out_as_term, shows_layout
from bnfuse.ops import Kind, write_weights
from bnfuse.ops.arms import Arm, arms_over, clusters_of
from bnfuse.ops.geometry import write_geometry
from bnfuse.ops.sums import Sum, sum_at
from bnfuse.passes import base
from bnfuse.passes.base import Applied, Declined
from bnfuse.report import decline

if TYPE_CHECKING:
    from torch import Tensor, fx

    from bnfuse.graph import Program
    from bnfuse.ops import Call
    from bnfuse.report import Decline


@dataclass(frozen=True, slots=True, eq=False)
class Cluster:
    """Branches over one value that become one layer.

    Attributes:
        arms: The branches, that of the main layer first.
        main: The layer that does their work.
        merged: What it becomes.
    """

    arms: tuple[Arm, ...]
    main: Call
    merged: Branch

    def rounded(self) -> tuple[Tensor | None, Tensor | None]:
        """Return the new tensors of the main layer in its dtype; None where they do not fit it.

        A batch norm keeps its statistics: ``γ r (x − μ) + β`` is ``s x + t`` for ``γ = s / r`` and
        ``β = t + s μ``.
        """
        if self.main.kind is Kind.CONVOLUTION:
            like = self.main.weight
            return round_weight(self.merged.weight, like), round_once(self.merged.bias, like)
        mean, variance = (self.main.owned[n].tensor for n in ("running_mean", "running_var"))
        scale = self.merged.weight.reshape(-1)
        gamma = scale * (as_float64(variance) + float(self.main.options["eps"])).sqrt()
        beta = self.merged.bias + scale * as_float64(mean)
        return round_once(gamma, mean), round_once(beta, mean)


@dataclass(frozen=True, slots=True, eq=False)
class Match(base.Match):
    """A sum with branches that merge.

    Attributes:
        whole: The sum.
        clusters: The branches that become one, for each value that they read.
    """

    whole: Sum
    clusters: tuple[Cluster, ...]

    @property
    def name(self) -> str:
        """The qualified name of the layer that adds up the branches."""
        return self.whole.top.name

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that would change."""
        arms = [arm for cluster in self.clusters for arm in cluster.arms]
        return tuple(arm.call.name for arm in arms if arm.call is not None)

    @property
    def ranks(self) -> tuple[tuple[fx.Node, int], ...]:
        """What the branches take for granted about what they read."""
        arms = [arm for cluster in self.clusters for arm in cluster.arms]
        return tuple((arm.source, arm.guard[0]) for arm in arms if arm.guard is not None)

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The sums and the branches."""
        arms = [arm for cluster in self.clusters for arm in cluster.arms]
        branches = [arm.call.node for arm in arms if arm.call is not None]
        return (self.whole.top.node, *self.whole.inner, *branches)


@dataclass(frozen=True, slots=True)
class MergeBranches:
    """The pass; its algebra is in the description of this module."""

    name: ClassVar[str] = "merge-branches"
    is_exact: ClassVar[bool] = True

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the sum at ``node`` if it is outermost and some of its branches merge."""
        whole = sum_at(program, node)
        if whole is None:
            return None
        found = clusters_of(program, arms_over(program, whole))
        clusters = tuple(
            Cluster(arms, arms[0].call, merged_branches([arm.signed for arm in arms]))
            for arms in found
            if arms[0].call is not None
        )
        return Match(whole, clusters) if clusters and _is_unseen(program, whole, clusters) else None

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return None: what does not merge is no match."""
        return None

    def rewrite(self, program: Program, match: Match) -> tuple[Applied, ...] | Declined:
        """Write the merged kernels and add up what is left."""
        node, applied = match.whole.top.node, []
        rounded = [cluster.rounded() for cluster in match.clusters]
        for cluster, (weight, bias) in zip(match.clusters, rounded, strict=True):
            if weight is None or bias is None:
                reason = decline("overflow", match.name, cluster.main.name)
                return Declined(match.name, node.name, reason)
        for cluster, (weight, bias) in zip(match.clusters, rounded, strict=True):
            if weight is not None:
                into = _write(program, cluster, weight, bias)
                applied.append(Applied(match.name, node.name, into))
                applied += [
                    Applied(arm.call.name, arm.term.value.name, into)
                    for arm in cluster.arms[1:]
                    if arm.call is not None
                ]
        total = _added_up(program, match)
        program.written_values.join(node, total)
        program.replace(node, total)
        _erase(program, match)
        return tuple(applied)


def _is_unseen(program: Program, whole: Sum, clusters: tuple[Cluster, ...]) -> bool:
    """Whether the sum is laid out in memory as before, or nothing can tell."""
    first = whole.terms[0]
    main = next((c.main for c in clusters if any(arm.term is first for arm in c.arms)), None)
    if main is None or is_laid_out_as_term(program, first.value, main):
        return True
    return not shows_layout(program, whole.top.node)


def _write(program: Program, cluster: Cluster, weight: Tensor, bias: Tensor | None) -> str:
    """Make the main layer do the work of all, and return its name.

    It takes the place of the first branch, so that who asks for the shape or the rank of a branch
    can ask it instead: branches have the shape of their sum.
    """
    main = cluster.main
    for arm in cluster.arms:
        if arm.guard is not None:
            guard_rank(program, arm.source, *arm.guard)
    if main.kind is Kind.CONVOLUTION:
        write_geometry(program, main, cluster.merged)
    into = write_weights(program, main, weight, bias)
    values = {arm.term.value for arm in cluster.arms if arm.call is not None}
    first = next(node for node in program.graph.nodes if node in values)
    if first is not main.node:
        constants = [node for node in main.node.all_input_nodes if node.op == "get_attr"]
        for needed in (*constants, main.node):
            first.prepend(needed)
    _let_ask(main.node, values)
    return into


def _let_ask(main: fx.Node, values: set[fx.Node]) -> None:
    """Let who asks for the shape of a value ask for that of the main layer's."""
    for value in values - {main}:
        for reader in list(value.users):
            if reads_metadata_only(reader, value):
                reader.replace_input_with(value, main)


def _added_up(program: Program, match: Match) -> fx.Node:
    """Add up the merged layers and the other terms, in order, and return the total."""
    into = {arm.term: cluster for cluster in match.clusters for arm in cluster.arms}
    total: fx.Node | None = None
    seen: set[Cluster] = set()
    with program.graph.inserting_before(match.whole.top.node):
        for term in match.whole.terms:
            cluster = into.get(term)
            if cluster in seen:
                continue
            value, is_negative, is_in_place = term.value, term.is_negative, term.is_in_place
            if cluster is not None:
                seen.add(cluster)
                value, is_negative = cluster.main.node, False
                is_in_place = all(arm.term.is_in_place for arm in cluster.arms)
            if total is None:
                total = value
                continue
            last, target = total, _OPERATORS[is_negative, is_in_place]
            total = program.graph.call_function(target, (last, value))
            if is_in_place:
                program.written_values.join(last, total)
    if total is None:
        raise LookupError(f"{match.name} adds up nothing")
    return total


_OPERATORS: dict[tuple[bool, bool], Any] = {
    (False, False): operator.add, (False, True): operator.iadd,
    (True, False): operator.sub, (True, True): operator.isub,
}  # fmt: skip


def _erase(program: Program, match: Match) -> None:
    """Remove the sums and the branches that nothing reads any more."""
    program.graph.erase_node(match.whole.top.node)
    arms = [arm for cluster in match.clusters for arm in cluster.arms[1:] if arm.call is not None]
    for node in (*match.whole.inner, *(arm.term.value for arm in arms)):
        if not node.users:
            program.erase(node)
