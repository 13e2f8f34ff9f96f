"""Fold a constant per-channel affine into the operations around it.

::

    x ── conv(W, b) ── bn(γ, β, μ, σ²) ── y        before
    x ── conv(W', b') ── y                         after

    x ── bn ─┬─ conv 1×1 ── y                      before, where no weight makes x
             └─ conv 1×1 ── z
    x ───────┬─ conv 1×1' ── y                     after: all that read it absorb it
             └─ conv 1×1' ── z

    x ── bn ── relu ── conv 1×1 ── y               before, where both ways are barred
    x ── max(·, −t/s) ── conv 1×1' ── y            after: bounds for each channel

In eval mode a batch norm is the affine ``y = s x + t`` with ``s = γ / sqrt(σ² + ε)`` and
``t = β − s μ`` on axis 1; a product or a sum with a constant is one as well. It goes up into what
makes its input if it can, past every operation that lets it through, else down into all that read
its result: ``bnfuse.moves`` has the rules, each with its formula and its conditions, and
``bnfuse.affine`` the arithmetic, in float64 and rounded once.

Declined when:

1. the affine is none: statistics of the batch, computed or written by the forward, or not finite;
2. hooks run on the way;
3. in both directions an operation stands in the way that absorbs nothing and lets nothing pass;
   the reason is that of the way up;
4. a value on the way up has other readers, which need it as it is;
5. the channels of what would absorb it are on another axis. Equal sizes prove nothing: where the
   graph does not fix the number of dimensions, a guard is put in that fails rather than compute
   something else;
6. the dtypes differ so that folding would change the result's, or the new weights do not fit their
   dtype: they overflow, or are so small that more is lost than by rounding;
7. a tensor of the two is missing or no plain dense one: sparse, quantized, or of a class that gives
   operations another meaning.

Source: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167, Algorithm 2, whose affine form is
moved; the axis condition is pytorch/ao#4116.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from bnfuse.affine import Made, round_once, round_weight
from bnfuse.graph import guard_rank
from bnfuse.graph.clamp import ChannelClamp
from bnfuse.moves import Origin, Plan, find_plan, origin_of
from bnfuse.moves.step import NewTensors
from bnfuse.moves.strides import copied, is_laid_out_alike, layout_matters
from bnfuse.ops import write_weights
from bnfuse.ops.clamps import write_clamp
from bnfuse.ops.geometry import add_map
from bnfuse.passes import base
from bnfuse.passes.base import Applied, Declined
from bnfuse.report import Decline, decline

if TYPE_CHECKING:
    from torch import Tensor, fx

    from bnfuse.graph import Program
    from bnfuse.moves import Edit
    from bnfuse.moves.step import Clamp


@dataclass(frozen=True, slots=True)
class Match(base.Match):
    """An affine of the graph and where it can go.

    Attributes:
        origin: The call site that is an affine.
        plan: What absorbs it, or why nothing does.
    """

    origin: Origin
    plan: Plan | Decline

    @property
    def name(self) -> str:
        """The qualified name of the layer."""
        return self.origin.call.name

    @property
    def layers(self) -> tuple[str, ...]:
        """The layer and those it would be folded into."""
        if isinstance(self.plan, Decline):
            return (self.name,)
        clamps = (clamp.call.name for clamp in self.plan.clamps)
        return (self.name, *(edit.call.name for edit in self.plan.edits), *clamps)

    @property
    def ranks(self) -> tuple[tuple[fx.Node, int], ...]:
        """What the way of the affine takes for granted."""
        return () if isinstance(self.plan, Decline) else tuple(self.plan.ranks)

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The affine and what it passes on its way, with what absorbs it."""
        if isinstance(self.plan, Decline):
            return (self.origin.call.node,)
        return (self.origin.call.node, *self.plan.passed)


MOST_BOUNDS = 3
"""How many operations the clamp of one activation can become at most."""


@dataclass(frozen=True, slots=True)
class FoldAffine:
    """The pass; its algebra is in the description of this module.

    Attributes:
        with_maps: Whether a shift before a zero-padded convolution may become a map that is added
            behind it. That ends in a sum that other folds would have to pass, so it comes last.
        with_bounds: How many operations on each element an activation on the way down may become,
            as a clamp with bounds for each channel: one for each side, one for a shift. A fold that
            leaves the activation as it is saves more, so this comes after; 0 leaves it always.
    """

    with_maps: bool = False
    with_bounds: int = 0
    name: ClassVar[str] = "fold-affine"
    is_exact: ClassVar[bool] = True

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the affine called at ``node`` and where it can go."""
        origin = origin_of(program, node)
        if origin is None:
            return None
        found = find_plan(program, origin, with_maps=self.with_maps, with_bounds=self.with_bounds)
        if isinstance(found, Decline) and 0 < self.with_bounds < MOST_BOUNDS:
            wider = find_plan(program, origin, with_maps=self.with_maps, with_bounds=MOST_BOUNDS)
            if isinstance(wider, Plan):
                found = decline("slow-clamp", origin.call.name)
        return Match(origin, found)

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return why the affine has to stay, or None."""
        return match.plan if isinstance(match.plan, Decline) else None

    def rewrite(self, program: Program, match: Match) -> Applied | Declined:
        """Write the folded weights and let every reader of the affine read its input."""
        node = match.origin.call.node
        if isinstance(match.plan, Decline):
            return Declined(match.name, node.name, match.plan)
        rounded = [(edit, _rounded(edit)) for edit in match.plan.edits]
        clamps = [(clamp, _made(clamp, match.plan)) for clamp in match.plan.clamps]
        unfit = [edit.call.name for edit, made in rounded if made is None]
        unfit += [clamp.call.name for clamp, made in clamps if made is None]
        if unfit:
            return Declined(match.name, node.name, decline("overflow", match.name, unfit[0]))
        for value, rank in match.plan.ranks:
            guard_rank(program, value, rank, match.name)
        for clamp, module in clamps:
            if module is not None:
                write_clamp(program, clamp.call, module)
        into, extra = _written(program, rounded)
        source = _laid_out(program, match.origin)
        if not match.plan.clamps or node not in program.written_values:
            program.written_values.join(node, source)  # else what wrote it is a clamp now
        program.replace(node, source)
        program.erase(node)
        return Applied(match.name, node.name, into, extra)


def _joined(parts: list[Tensor]) -> Tensor:
    return parts[0] if len(parts) == 1 else torch.cat(parts)


def _written(program: Program, rounded: list[tuple[Edit, NewTensors | None]]) -> tuple[str, int]:
    """Write new tensors, and return the names of the layers that have them, and bytes added."""
    into, extra = [], 0
    for edit, tensors in rounded:
        if tensors is None:
            raise ValueError(f"the tensors of {edit.call.name} do not fit: check before writing.")
        into.append(write_weights(program, edit.call, tensors.weight, tensors.bias))
        extra += 0 if into[-1] == edit.call.name else tensors.weight.nbytes
        if tensors.border is not None:
            add_map(program, edit.call, tensors.border)
    return ", ".join(into), extra


def _laid_out(program: Program, origin: Origin) -> fx.Node:
    """Return what is read in the place of an affine: its input, dense where a view needs it."""
    node, value = origin.call.node, origin.value
    if is_laid_out_alike(program, origin.call, value) or not layout_matters(program, node):
        return value
    with program.graph.inserting_before(node):
        dense = copied(program, origin.call, value)
    program.written_values.join(value, dense)
    return dense


def _made(clamp: Clamp, plan: Plan) -> ChannelClamp | None:
    """Return a clamp in the dtype of what absorbs the affine behind it; None where none fits."""
    likes = [_like(edit) for edit in plan.edits]
    if len({like.dtype for like in likes}) != 1:
        return None
    made = clamp.bounds.rounded(likes[0])
    return None if made is None else ChannelClamp(*made)


def _like(edit: Edit) -> Tensor:
    """Return the tensor whose dtype the new ones get."""
    old = edit.call.tensor("weight")
    return edit.call.owned["running_mean"].tensor if old is None else old


def _rounded(edit: Edit) -> NewTensors | None:
    """Return new tensors in the dtype of the old ones, or None where they do not fit it.

    A map is rounded where it is added.
    """
    like = _like(edit)
    biases: list[Tensor] = []
    borders: list[Tensor] = []

    def make(rows: slice) -> Tensor:
        made = edit.tensors(rows)
        biases.extend([] if made.bias is None else [made.bias])
        borders.extend([] if made.border is None else [made.border])
        return made.weight

    weight = round_weight(Made(make, edit.is_by_rows), like, edit.again())
    bias, border = (round_once(_joined(t), like) if t else None for t in (biases, borders))
    if weight is None or (bias is None) != (not biases) or (border is None) != (not borders):
        return None
    return NewTensors(weight, bias, borders[0] if borders else None)
