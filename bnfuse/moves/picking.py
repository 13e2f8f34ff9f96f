"""An affine moved through operations that pick elements along one axis or several.

A flip, a roll, a slice and the like give ``y[i] = x[p(i)]`` along an axis, whatever the elements
are. So on the way down the coefficients are picked alike, and on the way up each goes back to the
place that its element came from::

    s, t ── y = x[p]          s[p], t[p] behind it
    y = x[p] ── s, t          s'[p(i)] = s[i], t'[p(i)] = t[i] before it

Elements that are picked nowhere take ``s = 1, t = 0``; one that is picked several times needs the
same coefficients at all of its places.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnfuse.affine import picked_at, put_back
from bnfuse.ops.picks import slice_places
from bnfuse.ops.shape_rules import axes_of, axis_of
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.affine import Affine
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call

    Places = Callable[[int], Tensor | None]
    Picks = list[tuple[int, Places]]


def picked(traveller: Traveller, call: Call, affine: Affine) -> Affine | None:
    """Return the affine of the picked elements."""
    picks = PICKING[call.kind](traveller, call, affine.rank)
    for axis, places in picks or ():
        if affine.is_constant_on(axis):
            continue
        where = places(affine.scale.shape[axis])
        if where is None:
            return None
        affine = picked_at(affine, axis, where)
    return None if picks is None else affine


def unpicked(traveller: Traveller, call: Call, affine: Affine) -> Affine | None:
    """Return the affine of the elements that were picked from."""
    picks = PICKING[call.kind](traveller, call, affine.rank)
    for axis, places in picks or ():
        if affine.is_constant_on(axis):
            continue
        size = _size_before(traveller, call, affine, axis)
        where = None if size is None else places(size)
        if size is None or where is None or len(where) != affine.scale.shape[axis]:
            return None  # the result is broadcast to more
        before = put_back(affine, axis, where, size)
        if before is None:
            return None
        affine = before
    return None if picks is None else affine


def _size_before(traveller: Traveller, call: Call, affine: Affine, axis: int) -> int | None:
    """Return the size of an axis of what is picked from, where it is known."""
    if call.kind in _PERMUTING:
        return affine.scale.shape[axis]
    shape = traveller.shapes.of(call.input)
    size = None if shape is None or len(shape) != affine.rank else shape[axis]
    return size if isinstance(size, int) else None


def _flipped(_: Traveller, call: Call, rank: int) -> Picks | None:
    axes = axes_of(call.options["dims"], rank)
    return (
        None if axes is None else [(axis, lambda size: torch.arange(size).flip(0)) for axis in axes]
    )


def _shuffled(_: Traveller, call: Call, rank: int) -> Picks | None:
    """``channel_shuffle`` reads ``(groups, c / groups)`` by columns."""
    groups = call.options["groups"]
    if rank < 3 or not isinstance(groups, int):
        return None
    return [(1, lambda size: torch.arange(size).view(groups, -1).t().flatten())]


def _rolled(_: Traveller, call: Call, rank: int) -> Picks | None:
    dims, shifts = axes_of(call.options["dims"], rank), call.options["shifts"]
    steps = tuple(shifts) if isinstance(shifts, list | tuple) else (shifts,)
    if dims is None or len(dims) != len(steps) or not all(type(step) is int for step in steps):
        return None  # without dims all axes are rolled as one

    def by(step: int) -> Places:
        return lambda size: torch.arange(size).roll(step)

    return [(axis, by(step)) for axis, step in zip(dims, steps, strict=True)]


def _sliced(traveller: Traveller, call: Call, rank: int) -> Picks | None:
    axis = axis_of(call.options["dim"], rank)
    is_written = any(c.path in traveller.program.written for c in call.owned.values())
    if axis is None or is_written or slice_places(call, 1) is None:
        return None
    return [(axis, lambda size: slice_places(call, size))]


def _interleaved(_: Traveller, call: Call, rank: int) -> Picks | None:
    axis, count = axis_of(call.options["dim"], rank), call.options["repeats"]
    if axis is None or type(count) is not int:
        return None
    return [(axis, lambda size: torch.arange(size).repeat_interleave(count))]


PICKING: dict[Kind, Callable[[Traveller, Call, int], Picks | None]] = {
    Kind.FLIP: _flipped,
    Kind.CHANNEL_SHUFFLE: _shuffled,
    Kind.ROLL: _rolled,
    Kind.SLICE: _sliced,
    Kind.REPETITION: _interleaved,
}
"""For each axis that an operation picks along the places it picks, given the size there."""

_PERMUTING = (Kind.FLIP, Kind.CHANNEL_SHUFFLE, Kind.ROLL)
