"""An affine behind a norm or an embedding, absorbed by the norm's own weight or by the table.

A layer norm or a group norm ends in an affine of its own, so two of them become one; a norm by the
root mean square has no shift. An embedding reads a row of its table for each element::

    s (γ z + β) + t = (s γ) z + (s β + t)          s W[i] + t = (W s + t)[i]

They take it on the axis of their weight alone. Before a norm nothing is absorbed: what it divides
by would have to stay the same.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.affine import as_float64
from bnfuse.moves.step import Edit, Moved, NewTensors
from bnfuse.moves.weights import obstacle_of, ranks_of
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.affine import Affine
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call
    from bnfuse.report import Decline


def up_into_own_affine(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Absorb an affine behind a norm into its weight and bias."""
    if obstacle := obstacle_of(traveller, call):
        return obstacle
    weight, bias = call.tensor("weight"), call.tensor("bias")
    if weight is None:
        return traveller.decline("no-linear-producer", f"{call.name} without a weight of its own")
    if affine.has_shift and call.kind is Kind.RMS_NORM:
        return traveller.decline("no-linear-producer", f"{call.name}, which adds no bias")
    own = _on_weight(call, affine, weight)
    if own is None or not _is_rank_known(traveller, call, affine):
        return traveller.decline("other-axis", call.name)
    shift: Tensor | None = own.shift if bias is None else own.scale * as_float64(bias) + own.shift
    if bias is None and not affine.has_shift:
        shift = None
    made = NewTensors(as_float64(weight) * own.scale, shift)
    edit = Edit(call, lambda _, __: made)
    return (Moved(edits=(edit,), ranks=ranks_of(call, affine)),)


def up_into_embedding(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Absorb an affine behind an embedding into every row of its table."""
    if obstacle := obstacle_of(traveller, call):
        return obstacle
    weight = call.weight
    if call.options["max_norm"] is not None or weight.ndim != 2:
        return traveller.decline("no-linear-producer", f"{call.name}, which writes its table")
    own = _on_last_axes(affine, weight[0])
    if own is None or not _is_rank_known(traveller, call, affine):
        return traveller.decline("other-axis", call.name)

    def make(call: Call, _: slice) -> NewTensors:
        return NewTensors(as_float64(call.weight) * own.scale + own.shift, None)

    edit = Edit(call, make, is_by_rows=True)
    return (Moved(edits=(edit,), ranks=ranks_of(call, affine)),)


def _is_rank_known(traveller: Traveller, call: Call, affine: Affine) -> bool:
    """Whether an axis is the one it is taken for, without a guess: these take any rank."""
    return not affine.is_placed or traveller.shapes.rank(call.node) == affine.rank


def _on_weight(call: Call, affine: Affine, weight: Tensor) -> Affine | None:
    """Return an affine in the shape of a norm's weight, or None where it is on other axes."""
    if call.kind is not Kind.GROUP_NORM:
        return _on_last_axes(affine, weight)
    if affine.rank == 0:
        return affine.on_any_axis(weight.numel())
    return affine.along(1, weight.numel()) if affine.rank > 1 else None


def _on_last_axes(affine: Affine, weight: Tensor) -> Affine | None:
    """Return an affine that is constant but on the last axes, in the shape of a weight on those."""
    shape, count = affine.scale.shape, min(affine.rank, weight.ndim)
    others, own = shape[: affine.rank - count], shape[affine.rank - count :]
    sizes = zip(reversed(own), reversed(weight.shape), strict=False)
    if any(size != 1 for size in others) or any(a not in (1, b) for a, b in sizes):
        return None
    return affine.map(lambda c: c.reshape(own).expand(weight.shape).contiguous())
