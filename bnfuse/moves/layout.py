"""An affine moved through operations that only move elements: its coefficients move alike."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from bnfuse.affine import Affine, permuted, regroup, unpermuted
from bnfuse.moves.copies import expanded, repeated, unexpanded, unrepeated
from bnfuse.moves.picking import PICKING, picked, unpicked
from bnfuse.moves.pieces import (
    down_through_concatenation,
    down_through_split,
    down_through_stack,
    sliced,
    up_through_concatenation,
    up_through_item,
    up_through_stack,
)
from bnfuse.moves.pixels import (
    may_pad,
    pixel_shuffle,
    pixel_unshuffle,
    undo_pixel_shuffle,
    undo_pixel_unshuffle,
    undo_unfold,
    unfold,
)
from bnfuse.moves.step import Moved
from bnfuse.ops.calls import read_call
from bnfuse.ops.regroup import groups_of
from bnfuse.ops.shape_rules import permutation_of
from bnfuse.ops.shapes import reshape_target
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call
    from bnfuse.report import Decline

    Change = Callable[[Traveller, Call, Affine], Affine | None]


def up_through_layout(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Move an affine after a layout operation before it."""
    blocked = traveller.decline("no-linear-producer", f"{call.kind.value} in {call.name}")
    if affine.rank == 1 or _is_view_as_dtype(call):
        return blocked  # the last axis may be another before
    if call.kind is not Kind.ITEM and _is_the_same_on_all(call, affine):
        onward = [operand for operand in call.operands if isinstance(operand, fx.Node)]
        if len(set(onward)) < len(onward):
            return blocked
        return (Moved(tuple((operand, affine) for operand in onward)),)
    moved: tuple[tuple[fx.Node, Affine], ...] | None
    if call.kind in _TO_ARMS:
        moved = _TO_ARMS[call.kind](traveller, call, affine)
    else:
        before = _CHANGES[call.kind][0](traveller, call, affine)
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
    if call.kind is Kind.SPLIT:
        return down_through_split(traveller, call, affine) or blocked
    if call.kind in _FROM_ARM:
        after = _FROM_ARM[call.kind](traveller, call, value, affine)
    elif _is_the_same_on_all(call, affine):
        after = affine
    elif call.kind is Kind.ITEM:
        after = sliced(call, affine)
    else:
        after = _CHANGES[call.kind][1](traveller, call, affine)
    return blocked if after is None else (Moved(((call.node, after),)),)


def _is_the_same_on_all(call: Call, affine: Affine) -> bool:
    """Whether there is one coefficient for all elements, of which none is made up."""
    makes_zeros = call.kind is Kind.UNFOLD and may_pad(call)
    return affine.rank == 0 and not (makes_zeros and affine.has_shift)


def _is_view_as_dtype(call: Call) -> bool:
    """Whether a ``view`` reads the elements as another dtype."""
    wanted = call.options.get("shape")
    parts = wanted if isinstance(wanted, list | tuple) else (wanted,)
    return any(isinstance(part, torch.dtype) for part in parts)


def _unpermuted(_: Traveller, call: Call, affine: Affine) -> Affine | None:
    order = permutation_of(call, affine.rank)
    return None if order is None else unpermuted(affine, order)


def _permuted(_: Traveller, call: Call, affine: Affine) -> Affine | None:
    order = permutation_of(call, affine.rank)
    return None if order is None else permuted(affine, order)


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


_TO_ARMS = {
    Kind.CONCATENATION: up_through_concatenation,
    Kind.STACK: up_through_stack,
    Kind.ITEM: up_through_item,
}
_FROM_ARM = {
    Kind.CONCATENATION: down_through_concatenation,
    Kind.STACK: down_through_stack,
}
_CHANGES: dict[Kind, tuple[Change, Change]] = {
    Kind.PERMUTATION: (_unpermuted, _permuted),
    Kind.RESHAPE: (partial(_regrouped, is_up=True), partial(_regrouped, is_up=False)),
    Kind.PIXEL_SHUFFLE: (undo_pixel_shuffle, pixel_shuffle),
    Kind.PIXEL_UNSHUFFLE: (undo_pixel_unshuffle, pixel_unshuffle),
    Kind.UNFOLD: (undo_unfold, unfold),
    Kind.EXPAND: (unexpanded, expanded),
    Kind.REPEAT: (unrepeated, repeated),
    **dict.fromkeys(PICKING, (unpicked, picked)),
}
"""What becomes of coefficients on the way up and on the way down."""
