"""An affine moved through means and sums over axes of a value.

With ``n`` elements along the axes, and coefficients that are constant along them::

    mean(s x + t) = s mean(x) + t          sum(s x + t) = s sum(x) + n t

On the way down the shift may differ along the axes: its own mean, or sum, is what is added. The
scale may not, since it weighs the elements. On the way up the coefficients come back constant.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from bnfuse.affine import Affine
from bnfuse.moves.step import Moved
from bnfuse.ops.shape_rules import axes_of
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call
    from bnfuse.report import Decline


def up_through_reduction(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Move an affine after a mean or a sum before it."""
    blocked = traveller.decline("no-linear-producer", f"{call.kind.value} in {call.name}")
    before = _with_axes(call, affine)
    if before is None:
        return blocked
    if call.kind is Kind.SUM and affine.has_shift:
        count = _count(traveller, call, before)
        if not count:
            return blocked
        before = Affine(before.scale, before.shift / count)
    ranks = ((call.input, before.rank),) if before.is_placed else ()
    return (Moved(((call.input, before),), ranks=ranks),)


def down_through_reduction(
    traveller: Traveller, call: Call, _: fx.Node, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Move an affine before a mean or a sum behind it."""
    blocked = traveller.decline("no-linear-reader", f"{call.kind.value} in {call.name}")
    after = _without_axes(call, affine)
    if after is None:
        return blocked
    if call.kind is Kind.SUM and affine.has_shift:
        count = _count(traveller, call, affine)
        if count is None:
            return blocked
        after = Affine(after.scale, after.shift * count)
    return (Moved(((call.node, after),)),)


def _without_axes(call: Call, affine: Affine) -> Affine | None:
    """Return the affine behind a mean: the axes go, or are left with one coefficient."""
    if affine.rank == 0:
        return None if call.options["dtype"] is not None else affine
    axes = _axes(call, affine.rank)
    if affine.rank == 1 or axes is None:
        return None
    first = affine.scale
    for axis in axes:
        first = first.narrow(axis, 0, 1)
    if bool((affine.scale != first).any()):
        return None  # the scale weighs the elements
    mean = affine.shift.mean(axes, keepdim=True)
    after = Affine.of(first, mean)
    if call.options["keepdim"]:
        return after
    kept = [size for axis, size in enumerate(after.scale.shape) if axis not in axes]
    return after.map(lambda c: c.reshape(kept))


def _with_axes(call: Call, affine: Affine) -> Affine | None:
    """Return the affine before a mean: the axes come back, with one coefficient along them."""
    if affine.rank == 0:
        return None if call.options["dtype"] is not None else affine
    dims, keeps = call.options["dim"], call.options["keepdim"]
    count = len(dims) if isinstance(dims, list | tuple) else 1
    rank = affine.rank if keeps else affine.rank + count
    axes = _axes(call, rank)
    if affine.rank == 1 or axes is None:
        return None
    if keeps:
        return affine if all(affine.is_constant_on(axis) for axis in axes) else None
    sizes = iter(affine.scale.shape)
    shape = [1 if axis in axes else next(sizes) for axis in range(rank)]
    return affine.map(lambda c: c.reshape(shape))


def _axes(call: Call, rank: int) -> tuple[int, ...] | None:
    return None if call.options["dtype"] is not None else axes_of(call.options["dim"], rank)


def _count(traveller: Traveller, call: Call, affine: Affine) -> int | None:
    """Return how many elements are added up, or None where a size is not known."""
    shape = traveller.shapes.of(call.input)
    axes = None if shape is None else _axes(call, len(shape))
    if shape is None or axes is None or affine.rank not in (0, len(shape)):
        return None
    sizes = [shape[axis] for axis in axes]
    numbers = [size for size in sizes if isinstance(size, int)]
    return prod(numbers) if len(numbers) == len(sizes) else None
