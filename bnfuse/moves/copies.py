"""An affine moved through operations that repeat a value whole, and may add axes in front.

``expand`` and ``repeat`` name a size, or a count, for each axis of the result; the axes that the
value has are the last of them. An axis in front, or one that holds copies of one element, takes the
same coefficients all along.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnfuse.affine import picked_at, put_back
from bnfuse.ops.rank_rules import count_of

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.affine import Affine
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call


def expanded(_: Traveller, call: Call, affine: Affine) -> Affine | None:
    """Return the affine of ``x.expand(sizes)``: axes in front are new."""
    return _with_axes_in_front(affine, _named(call, "size"))


def unexpanded(traveller: Traveller, call: Call, affine: Affine) -> Affine | None:
    """Return the affine of ``x`` from that of ``x.expand(sizes)``.

    Along an axis where coefficients differ the value must have as many elements itself.
    """
    wanted, given = _named(call, "size"), traveller.shapes.of(call.input)
    if wanted is None or given is None or len(wanted) != affine.rank:
        return None
    new = affine.rank - len(given)
    for axis, size in enumerate(affine.scale.shape):
        is_own = axis >= new and (wanted[axis] == -1 or given[axis - new] == size)
        if not affine.is_constant_on(axis) and not is_own:
            return None
    return affine.map(lambda c: c.reshape(c.shape[new:])) if new >= 0 else None


def repeated(_: Traveller, call: Call, affine: Affine) -> Affine | None:
    """Return the affine of ``x.repeat(counts)``: the coefficients in turn, as often."""
    counts = _named(call, "repeats")
    whole = _with_axes_in_front(affine, counts)
    for axis, count in enumerate(counts or ()):
        if whole is None or whole.is_constant_on(axis) or count == 1:
            continue
        size = whole.scale.shape[axis]
        whole = picked_at(whole, axis, _in_turn(size, count)) if type(count) is int else None
    return whole


def unrepeated(traveller: Traveller, call: Call, affine: Affine) -> Affine | None:
    """Return the affine of ``x`` from that of ``x.repeat(counts)``; all copies need the same."""
    counts, given = _named(call, "repeats"), traveller.shapes.of(call.input)
    if counts is None or given is None or len(counts) != affine.rank:
        return None
    new = affine.rank - len(given)
    for axis, count in enumerate(counts):
        if affine.is_constant_on(axis) or (axis >= new and count == 1):
            continue
        size = given[axis - new] if axis >= new else 1
        if not isinstance(size, int) or type(count) is not int:
            return None
        if size * count != affine.scale.shape[axis]:
            return None  # the result is broadcast to more
        before = put_back(affine, axis, _in_turn(size, count), size)
        if before is None:
            return None
        affine = before
    return affine.map(lambda c: c.reshape(c.shape[new:])) if new >= 0 else None


def _in_turn(size: int, count: int) -> Tensor:
    return torch.arange(size).repeat(count)


def _named(call: Call, option: str) -> tuple[object, ...] | None:
    """Return what a call names for each axis, or None where that is one computed value."""
    given = call.options[option]
    is_whole = isinstance(given, list | tuple) and count_of(given) is not None
    return tuple(given) if is_whole else None


def _with_axes_in_front(affine: Affine, named: tuple[object, ...] | None) -> Affine | None:
    if named is None or len(named) < affine.rank:
        return None
    return affine.map(lambda c: c.reshape(*[1] * (len(named) - c.ndim), *c.shape))
