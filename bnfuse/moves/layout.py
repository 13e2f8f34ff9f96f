"""An affine moved through operations that only move elements: its coefficients move alike."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from bnfuse.affine import Affine, permuted, regroup, unpermuted
from bnfuse.moves.pieces import (
    down_through_concatenation,
    down_through_split,
    sliced,
    up_through_concatenation,
    up_through_item,
)
from bnfuse.moves.step import Moved
from bnfuse.ops.calls import read_call
from bnfuse.ops.regroup import groups_of
from bnfuse.ops.shape_rules import axes_of, permutation_of
from bnfuse.ops.shapes import reshape_target
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call
    from bnfuse.report import Decline


def up_through_layout(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Move an affine after a layout operation before it."""
    blocked = traveller.decline("no-linear-producer", f"{call.kind.value} in {call.name}")
    if affine.rank == 1:
        return blocked  # the last axis may be another before
    if _is_view_as_dtype(call):
        return blocked
    if affine.rank == 0 and call.kind is not Kind.ITEM:
        onward = [operand for operand in call.operands if isinstance(operand, fx.Node)]
        if len(set(onward)) < len(onward):
            return blocked
        return (Moved(tuple((operand, affine) for operand in onward)),)
    if call.kind is Kind.CONCATENATION:
        moved = up_through_concatenation(traveller, call, affine)
    elif call.kind is Kind.ITEM:
        moved = up_through_item(traveller, call, affine)
    else:
        before = _undone(traveller, call, affine)
        moved = None if before is None else ((call.input, before),)
    if moved is None:
        return blocked
    ranks = tuple((value, own.rank) for value, own in moved if own.is_placed)
    return (Moved(moved, ranks=ranks),)


def down_through_layout(
    traveller: Traveller, call: Call, value: fx.Node, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Move an affine before a layout operation after it."""
    blocked = traveller.decline("no-linear-reader", f"{call.kind.value} in {call.name}")
    if affine.rank == 1 or _is_view_as_dtype(call):
        return blocked
    if call.kind is Kind.CONCATENATION:
        after = down_through_concatenation(traveller, call, value, affine)
    elif call.kind is Kind.SPLIT:
        return down_through_split(traveller, call, affine) or blocked
    elif affine.rank == 0:
        after = affine
    elif call.kind is Kind.ITEM:
        after = sliced(call, affine)
    else:
        after = _done(traveller, call, affine)
    return blocked if after is None else (Moved(((call.node, after),)),)


def _is_view_as_dtype(call: Call) -> bool:
    """Whether a ``view`` reads the elements as another dtype."""
    wanted = call.options.get("shape")
    parts = wanted if isinstance(wanted, list | tuple) else (wanted,)
    return any(isinstance(part, torch.dtype) for part in parts)


def _done(traveller: Traveller, call: Call, affine: Affine) -> Affine | None:
    """Return what the affine of the input is on the result."""
    if call.kind is Kind.PERMUTATION:
        order = permutation_of(call, affine.rank)
        return None if order is None else permuted(affine, order)
    if call.kind is Kind.RESHAPE:
        return _regrouped(traveller, call, affine, is_up=False)
    if call.kind is Kind.MEAN:
        return _without_axes(call, affine)
    if call.kind is Kind.PIXEL_SHUFFLE:
        return _shuffled(call, affine)
    return _flipped(call, affine) if call.kind is Kind.FLIP else _channels_mixed(call, affine)


def _undone(traveller: Traveller, call: Call, affine: Affine) -> Affine | None:
    """Return what the affine of the result is on the input."""
    if call.kind is Kind.PERMUTATION:
        order = permutation_of(call, affine.rank)
        return None if order is None else unpermuted(affine, order)
    if call.kind is Kind.RESHAPE:
        return _regrouped(traveller, call, affine, is_up=True)
    if call.kind is Kind.MEAN:
        return _with_axes(call, affine)
    if call.kind is Kind.PIXEL_SHUFFLE:
        return _unshuffled(call, affine)
    if call.kind is Kind.FLIP:
        return _flipped(call, affine)
    return _channels_mixed(call, affine, is_up=True)


def _regrouped(traveller: Traveller, call: Call, affine: Affine, *, is_up: bool) -> Affine | None:
    shapes = traveller.shapes
    given = shapes.of(call.input)
    if given is None and is_up and _keeps_last_axis(traveller, call):
        return affine.along(affine.rank - 1, affine.scale.shape[-1])
    if given is None:
        given = _given_for_flatten(call, affine, is_up=is_up)
    target = None if given is None else reshape_target(shapes, call, given)
    groups = None if given is None or target is None else groups_of(given, target)
    if groups is None or given is None or target is None:
        return None
    if affine.rank != len(target if is_up else given):
        return None
    if is_up:
        sides, before, after = [(g.after, g.before) for g in groups], target, given
    else:
        sides, before, after = [(g.before, g.after) for g in groups], given, target
    scale = regroup(affine.scale, sides, before, after)
    shift = regroup(affine.shift, sides, before, after)
    return None if scale is None or shift is None else Affine(scale, shift)


def _keeps_last_axis(traveller: Traveller, call: Call) -> bool:
    """Whether a linear layer's result, of whatever rank, is reshaped to as many channels, last."""
    producer = read_call(traveller.program, call.input)
    wanted = call.options.get("shape")
    if producer is None or producer.kind is not Kind.LINEAR or not isinstance(wanted, list | tuple):
        return False
    weight = producer.tensor("weight")
    return weight is not None and len(wanted) > 1 and wanted[-1] == weight.shape[0]


def _given_for_flatten(call: Call, affine: Affine, *, is_up: bool) -> tuple[Any, ...] | None:
    """Return unknown sizes for the input of a flatten, whose rank follows from the affine's."""
    if "start_dim" not in call.options:
        return None
    start, end = call.options["start_dim"], call.options["end_dim"]
    if not 0 <= start <= end:
        return None
    rank = affine.rank + (end - start if is_up else 0)
    return tuple(object() for _ in range(rank))


def _flipped(call: Call, affine: Affine) -> Affine | None:
    """A flip is its own inverse."""
    dims = call.options["dims"]
    is_plain = isinstance(dims, list | tuple) and all(isinstance(dim, int) for dim in dims)
    return affine.map(lambda c: c.flip(*dims)) if is_plain else None


def _channels_mixed(call: Call, affine: Affine, *, is_up: bool = False) -> Affine | None:
    """``channel_shuffle`` reads ``(groups, c / groups)`` by columns; up, the other way round."""
    groups = call.options["groups"]
    if affine.rank < 3 or not isinstance(groups, int):
        return None
    if affine.is_constant_on(1):
        return affine
    channels = affine.scale.shape[1]
    rows = channels // groups if is_up else groups
    order = torch.arange(channels).view(rows, -1).t().flatten()
    return affine.map(lambda c: c.index_select(1, order.to(c.device)))


def _without_axes(call: Call, affine: Affine) -> Affine | None:
    """A mean keeps what is constant along its axes, which go."""
    axes = _mean_axes(call, affine.rank)
    if axes is None or not all(affine.is_constant_on(axis) for axis in axes):
        return None
    if call.options["keepdim"]:
        return affine
    kept = [size for axis, size in enumerate(affine.scale.shape) if axis not in axes]
    return affine.map(lambda c: c.reshape(kept))


def _with_axes(call: Call, affine: Affine) -> Affine | None:
    """The axes that a mean took away come back, with one coefficient for all along them."""
    dims = call.options["dim"]
    count = len(dims) if isinstance(dims, list | tuple) else 1
    rank = affine.rank if call.options["keepdim"] else affine.rank + count
    axes = _mean_axes(call, rank)
    if axes is None:
        return None
    if call.options["keepdim"]:
        return affine if all(affine.is_constant_on(axis) for axis in axes) else None
    sizes = iter(affine.scale.shape)
    shape = [1 if axis in axes else next(sizes) for axis in range(rank)]
    return affine.map(lambda c: c.reshape(shape))


def _mean_axes(call: Call, rank: int) -> tuple[int, ...] | None:
    return None if call.options["dtype"] is not None else axes_of(call.options["dim"], rank)


def _shuffled(call: Call, affine: Affine) -> Affine | None:
    """``pixel_shuffle`` spreads blocks of ``r²`` channels; each block needs one coefficient."""
    factor = call.options["upscale_factor"]
    if affine.rank < 3 or not isinstance(factor, int):
        return None
    axis = affine.rank - 3
    if affine.is_constant_on(axis):
        return affine
    before, after = affine.scale.shape[:axis], affine.scale.shape[axis + 1 :]
    blocks = affine.map(lambda c: c.reshape(*before, -1, factor**2, *after))
    first = blocks.map(lambda c: c.select(axis + 1, 0))
    same = all(
        torch.equal(whole, one.unsqueeze(axis + 1).expand_as(whole))
        for whole, one in ((blocks.scale, first.scale), (blocks.shift, first.shift))
    )
    return first if same else None


def _unshuffled(call: Call, affine: Affine) -> Affine | None:
    """Each channel after ``pixel_shuffle`` was a block of ``r²`` channels before."""
    factor = call.options["upscale_factor"]
    if affine.rank < 3 or not isinstance(factor, int):
        return None
    axis = affine.rank - 3
    if not all(affine.is_constant_on(last) for last in (axis + 1, axis + 2)):
        return None
    if affine.is_constant_on(axis):
        return affine
    return affine.map(lambda c: c.repeat_interleave(factor**2, dim=axis))
