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
3. an in-place operation may write the value between its readers;
4. the branches do not align, or pad in different modes;
5. the merged kernel would multiply more than the branches do together.

Source: Ding et al., 2021, https://arxiv.org/abs/2101.03697, section 3.3.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import fx

from bnfuse.affine import Affine, as_float64, round_once
from bnfuse.affine.merge import Branch, are_aligned, merged_branches
from bnfuse.graph import only_reader
from bnfuse.graph.readers import reads_metadata_only
from bnfuse.ops import Call, Kind, read_call, write_weights
from bnfuse.ops.geometry import branch_of, write_geometry
from bnfuse.ops.odd import oddities
from bnfuse.passes.base import Applied, Declined
from bnfuse.report import decline

if TYPE_CHECKING:
    from bnfuse.graph import Program
    from bnfuse.report import Decline


@dataclass(frozen=True, slots=True, eq=False)
class Arm:
    """One term of a sum.

    Attributes:
        value: The term.
        is_negative: Whether it is subtracted.
        source: The value that the branch reads; the term itself where it is no branch.
        call: The call that makes it, or None for the value itself.
        branch: It as a convolution, or None where it is none.
    """

    value: fx.Node
    is_negative: bool
    source: fx.Node
    call: Call | None
    branch: Branch | None


@dataclass(frozen=True, slots=True, eq=False)
class Match:
    """A sum with branches that merge.

    Attributes:
        top: The call of the outermost sum.
        merging: The arms that become one.
        others: The remaining arms.
        inner: The sums among the terms of the outermost one.
        main: The convolution that does their work.
        merged: What it becomes.
    """

    top: Call
    merging: tuple[Arm, ...]
    others: tuple[Arm, ...]
    inner: tuple[fx.Node, ...]
    main: Call
    merged: Branch

    @property
    def name(self) -> str:
        """The qualified name of the layer that adds up the branches."""
        return self.top.name

    @property
    def layers(self) -> tuple[str, ...]:
        """All layers that would change."""
        return tuple(arm.call.name for arm in self.merging if arm.call is not None)


@dataclass(frozen=True, slots=True)
class MergeBranches:
    """The pass; its algebra is in the description of this module."""

    name: ClassVar[str] = "merge-branches"

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the sum at ``node`` if it is outermost and some of its branches merge."""
        top = _sum_at(program, node)
        if top is None or _is_part_of_a_sum(program, node):
            return None
        arms, inner = _terms(program, top)
        by_source: dict[fx.Node, list[Arm]] = {}
        for arm in arms:
            by_source.setdefault(arm.source, []).append(arm)
        for own in by_source.values():
            merging = _mergeable(program, own)
            if merging is not None:
                gone = {arm.value for arm in merging}
                others = tuple(arm for arm in arms if arm.value not in gone)
                merged = merged_branches([_signed(arm) for arm in merging])
                return Match(top, merging, others, tuple(inner), _main(merging), merged)
        return None

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return None: what does not merge is no match."""
        return None

    def rewrite(self, program: Program, match: Match) -> tuple[Applied, ...] | Declined:
        """Write the merged kernel and add up what is left."""
        main, node = match.main, match.top.node
        weight, bias = _rounded(match)
        if weight is None or bias is None:
            return Declined(match.name, node.name, decline("overflow", match.name, main.name))
        if main.kind is Kind.CONVOLUTION:
            write_geometry(program, main, match.merged)
        into = write_weights(program, main, weight, bias)
        _move_first(match)
        total = main.node
        with program.graph.inserting_before(node):
            for arm in match.others:
                total = _added(program.graph, total, arm)
        applied = [
            Applied(arm.call.name, arm.value.name, into)
            for arm in match.merging
            if arm.call is not None and arm.call.kind is Kind.BATCH_NORM
        ]
        node.replace_all_uses_with(total)
        program.graph.erase_node(node)
        _erase_unread(program, match)
        return (Applied(match.name, node.name, into), *applied)


def _rounded(match: Match) -> tuple[torch.Tensor | None, torch.Tensor | None]:
    """Return the new tensors of the main call in its dtype; a batch norm keeps its statistics.

    ``γ r (x − μ) + β`` is ``s x + t`` for ``γ = s / r`` and ``β = t + s μ``.
    """
    main, merged = match.main, match.merged
    if main.kind is Kind.CONVOLUTION:
        return round_once(merged.weight, main.weight), round_once(merged.bias, main.weight)
    mean, variance = (main.owned[name].tensor for name in ("running_mean", "running_var"))
    scale = merged.weight.reshape(-1)
    gamma = scale * torch.sqrt(as_float64(variance) + float(main.options["eps"]))
    return round_once(gamma, mean), round_once(merged.bias + scale * as_float64(mean), mean)


def _sum_at(program: Program, node: fx.Node) -> Call | None:
    """Return the call at a node if it is the sum or the difference of two values."""
    call = read_call(program, node)
    if call is None or call.kind not in (Kind.ADD, Kind.SUBTRACT):
        return None
    is_plain = len(call.operands) == 2 and call.options["alpha"] == 1
    are_values = all(isinstance(o, fx.Node) and o.op != "get_attr" for o in call.operands)
    return call if is_plain and are_values else None


def _is_part_of_a_sum(program: Program, node: fx.Node) -> bool:
    """Whether a sum is only added to something else, so that it is looked at from there."""
    reader = only_reader(node)
    return reader is not None and _sum_at(program, reader) is not None


def _terms(program: Program, top: Call) -> tuple[list[Arm], list[fx.Node]]:
    """Return the terms of a sum, and the sums among them that it goes through.

    It goes through a sum that nothing else reads, to any depth.
    """
    arms, inner = [], []
    pending = _operands(top, is_negative=False)
    while pending:
        value, is_negative = pending.pop()
        call = _sum_at(program, value)
        if call is not None and only_reader(value) is not None:
            inner.append(value)
            pending += _operands(call, is_negative=is_negative)
        else:
            arms.append(_arm(program, value, is_negative=is_negative))
    return arms, inner


def _operands(call: Call, *, is_negative: bool) -> list[tuple[fx.Node, bool]]:
    """Return the two values of a sum and whether each is subtracted, the first one last."""
    left, right = call.operands
    return [(right, is_negative ^ (call.kind is Kind.SUBTRACT)), (left, is_negative)]


def _arm(program: Program, value: fx.Node, *, is_negative: bool) -> Arm:
    call = read_call(program, value)
    if call is not None and only_reader(value) is not None:
        branch = branch_of(program, call)
        if branch is not None:
            return Arm(value, is_negative, call.input, call, branch)
        if _is_constant_norm(program, call):
            return Arm(value, is_negative, call.input, call, None)
    return Arm(value, is_negative, value, None, None)


def _is_constant_norm(program: Program, call: Call) -> bool:
    """Whether a call is a batch norm with statistics that nothing writes."""
    return (
        call.kind is Kind.BATCH_NORM
        and not (call.hooked or call.computed or oddities(call) or call.options["training"])
        and call.tensor("running_mean") is not None
        and not any(c.path in program.written for c in call.owned.values())
    )


def _mergeable(program: Program, arms: list[Arm]) -> tuple[Arm, ...] | None:
    """Return the arms over one value that become one convolution, or None."""
    main = max(arms, key=lambda arm: arm.branch.weight.numel() if arm.branch else 0)
    if main.source in program.written_values:
        return None
    if main.branch is None:
        return _norms(arms)
    if main.call is None:
        return None
    dtype = main.call.weight.dtype
    chosen, merged, cost = [main], _signed(main), main.branch.multiplications
    for arm in arms:
        as_branch = _as_branch(arm, main.branch, dtype)
        if arm is main or as_branch is None:
            continue
        trial = merged, _signed(as_branch)
        if not are_aligned(trial):
            continue
        together, apart = merged_branches(trial), cost + trial[1].multiplications
        if together.multiplications <= apart:
            chosen.append(as_branch)
            merged, cost = together, apart
    return tuple(chosen) if len(chosen) > 1 else None


def _norms(arms: list[Arm]) -> tuple[Arm, ...] | None:
    """Return batch norms of one value, and the value itself, whose sum is one batch norm."""
    norms = [arm for arm in arms if arm.call is not None]
    if not norms or len(arms) < 2:
        return None
    statistics = norms[0].call.owned["running_mean"].tensor if norms[0].call else None
    if statistics is None:
        return None
    like = Branch.diagonal(torch.ones_like(statistics), torch.zeros_like(statistics), axes=1)
    found = [_as_branch(arm, like, statistics.dtype) for arm in (norms[0], *arms)]
    chosen = tuple(dict.fromkeys(arm for arm in found[1:] if arm is not None))
    first = [arm for arm in chosen if arm.value is norms[0].value]
    rest = [arm for arm in chosen if arm.value is not norms[0].value]
    return (*first, *rest) if first and rest else None


def _as_branch(arm: Arm, like: Branch, dtype: torch.dtype) -> Arm | None:
    """Return an arm with its branch, beside a convolution with those axes and channels."""
    if arm.branch is not None and arm.call is not None:
        return arm if arm.call.weight.dtype is dtype else None
    axes, channels = len(like.stride), like.channels[0]
    if arm.call is None:
        ones = torch.ones(channels, dtype=torch.float64, device=like.weight.device)
        branch = Branch.diagonal(ones, torch.zeros_like(ones), axes)
    else:
        owned = arm.call.owned
        if any(constant.tensor.dtype is not dtype for constant in owned.values()):
            return None
        affine = Affine.of_batch_norm(
            owned["running_mean"].tensor,
            owned["running_var"].tensor,
            arm.call.tensor("weight"),
            arm.call.tensor("bias"),
            float(arm.call.options["eps"]),
        )
        if not affine.is_finite:
            return None
        branch = Branch.diagonal(affine.scale, as_float64(affine.shift), axes)
    return Arm(arm.value, arm.is_negative, arm.source, arm.call, branch)


def _signed(arm: Arm) -> Branch:
    """Return the branch of an arm with its sign."""
    if arm.branch is None:
        raise LookupError(f"{arm.value.name} is no branch")
    return arm.branch.negated() if arm.is_negative else arm.branch


def _main(arms: tuple[Arm, ...]) -> Call:
    """Return the convolution that the others are merged into."""
    call = arms[0].call
    if call is None:
        raise LookupError("the first arm is the largest convolution")
    return call


def _added(graph: fx.Graph, total: fx.Node, arm: Arm) -> fx.Node:
    target = operator.sub if arm.is_negative else operator.add
    return graph.call_function(target, (total, arm.value))


def _move_first(match: Match) -> None:
    """Put the convolution where the first branch was, and let who asks for shapes ask it.

    A branch has the shape of the sum, so a check of its rank may look at that instead.
    """
    values = {arm.value for arm in match.merging if arm.call is not None}
    first = min(values)  # nodes compare by their place in the graph
    main = match.main.node
    if first is not main:
        for needed in (*(n for n in main.all_input_nodes if n.op == "get_attr"), main):
            first.prepend(needed)
    for value in values - {main}:
        for reader in list(value.users):
            if reads_metadata_only(reader, value):
                reader.replace_input_with(value, main)


def _erase_unread(program: Program, match: Match) -> None:
    """Remove the branches and inner sums that nothing reads any more."""
    values = {*match.inner, *(arm.value for arm in (*match.merging, *match.others))}
    for node in sorted(values - {match.main.node}, reverse=True):
        if not node.users and node.op != "placeholder":
            program.erase(node)
