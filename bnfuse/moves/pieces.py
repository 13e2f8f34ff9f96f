"""An affine moved through operations that join values or take them apart.

Each arm of a concatenation takes its piece of the coefficients; an arm without any takes
``s = 1, t = 0``. Pieces of a split likewise.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch
from torch import fx

from bnfuse.affine import Affine, embedded, joined, pieces, selected
from bnfuse.moves.step import Moved
from bnfuse.ops.calls import read_call
from bnfuse.ops.shape_rules import axis_of

if TYPE_CHECKING:
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call


def up_through_concatenation(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[tuple[fx.Node, Affine], ...] | None:
    """Each arm takes its piece; arms without coefficients of their own take ``s = 1, t = 0``."""
    arms = [operand for operand in call.operands if isinstance(operand, fx.Node)]
    axis = axis_of(call.options["dim"], affine.rank)
    if len(set(arms)) < len(call.operands) or axis is None:
        return None
    if affine.is_constant_on(axis):
        return tuple((arm, affine) for arm in arms)
    sizes = _arm_sizes(traveller, arms, axis, affine.rank)
    if sizes is None or sum(sizes) != affine.scale.shape[axis]:
        return None
    return tuple(zip(arms, pieces(affine, axis, sizes), strict=True))


def down_through_concatenation(
    traveller: Traveller, call: Call, value: fx.Node, affine: Affine
) -> Affine | None:
    """The other arms take ``s = 1, t = 0``."""
    arms = [operand for operand in call.operands if isinstance(operand, fx.Node)]
    axis = axis_of(call.options["dim"], affine.rank)
    is_once = arms.count(value) == 1 and len(arms) == len(call.operands)
    if not is_once or axis is None:
        return None
    sizes = _arm_sizes(traveller, arms, axis, affine.rank)
    if sizes is None:
        return None
    none = _none_like(affine)
    return joined([affine if arm is value else none for arm in arms], axis, sizes)


def up_through_stack(
    _: Traveller, call: Call, affine: Affine
) -> tuple[tuple[fx.Node, Affine], ...] | None:
    """Each arm takes what stands at its place of the new axis."""
    arms = [operand for operand in call.operands if isinstance(operand, fx.Node)]
    axis = axis_of(call.options["dim"], affine.rank)
    if len(set(arms)) < len(call.operands) or axis is None:
        return None
    if affine.scale.shape[axis] not in (1, len(arms)):
        return None  # the result is broadcast to more
    return tuple((arm, selected(affine, axis, place)) for place, arm in enumerate(arms))


def down_through_stack(_: Traveller, call: Call, value: fx.Node, affine: Affine) -> Affine | None:
    """The other arms take ``s = 1, t = 0``."""
    axis = axis_of(call.options["dim"], affine.rank + 1)
    if call.operands.count(value) != 1 or axis is None or affine.rank == 0:
        return None
    own, none = (one.map(lambda c: c.unsqueeze(axis)) for one in (affine, _none_like(affine)))
    arms = [own if arm is value else none for arm in call.operands]
    return joined(arms, axis, [1] * len(arms))


def _none_like(affine: Affine) -> Affine:
    """Return ``s = 1, t = 0`` for a value with as many axes."""
    return Affine.of(affine.scale.new_ones([1] * affine.rank), 0.0)


def _arm_sizes(traveller: Traveller, arms: list[fx.Node], axis: int, rank: int) -> list[int] | None:
    shapes = [traveller.shapes.of(arm) for arm in arms]
    sizes = [s[axis] for s in shapes if s is not None and len(s) == rank]
    numbers = [size for size in sizes if isinstance(size, int)]
    return numbers if len(numbers) == len(arms) else None


def down_through_split(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[Moved, ...] | None:
    """Each piece of the value takes its piece of the coefficients."""
    readers = list(call.node.users)
    are_items = all(r.target is operator.getitem and isinstance(r.args[1], int) for r in readers)
    if not are_items:
        return None
    if affine.rank == 0:
        return (Moved(tuple((reader, affine) for reader in readers)),)
    shapes = traveller.shapes.pieces(call.node)
    axis = axis_of(call.options["dim"], affine.rank)
    if shapes is None or axis is None:
        return None
    if len(shapes[0]) < affine.rank:  # unbind
        parts = [selected(affine, axis, index) for index in range(len(shapes))]
    else:
        parts = pieces(affine, axis, [int(str(shape[axis])) for shape in shapes])
    return (Moved(tuple((reader, parts[int(str(reader.args[1]))]) for reader in readers)),)


def up_through_item(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[tuple[fx.Node, Affine], ...] | None:
    """A piece of a split takes its coefficients to its part of the whole; the rest stays."""
    index, split = call.options["index"], call.input
    if isinstance(index, tuple):
        unsliced = _unsliced(traveller, call, index, affine)
        return None if unsliced is None else ((split, unsliced),)
    shapes = traveller.shapes.pieces(split)
    source = split.args[0] if split.args else None
    if shapes is None or not isinstance(index, int) or not isinstance(source, fx.Node):
        return None
    if not _is_read_once(call.node, split, len(shapes)):
        return None
    axis = _split_axis(traveller, split, source)
    if axis is None or affine.rank != len(shapes[0]) or affine.rank == 0:
        return None
    whole = traveller.shapes.of(source)
    if whole is None or len(whole) != len(shapes[0]):
        return None
    if affine.scale.shape[axis] not in (1, shapes[index][axis]):
        return None  # the piece is broadcast to more
    none = _none_like(affine)
    arms = [affine if count == index % len(shapes) else none for count in range(len(shapes))]
    return ((source, joined(arms, axis, [int(str(shape[axis])) for shape in shapes])),)


def _is_read_once(piece: fx.Node, split: fx.Node, count: int) -> bool:
    """Whether nothing but a node reads its piece of a split: no second reader of the same piece."""
    others = [reader for reader in split.users if reader is not piece]
    return all(
        other.target is operator.getitem
        and isinstance(other.args[1], int)
        and (other.args[1] - piece.args[1]) % count  # type: ignore[operator]  # an int as well
        for other in others
    )


def _unsliced(
    traveller: Traveller, call: Call, index: tuple[object, ...], affine: Affine
) -> Affine | None:
    """``x[:, 1:]`` takes its coefficients to its part of the whole; the rest stays."""
    if not _are_plain_slices(index) or len(index) > affine.rank:
        return None
    for axis, part in enumerate(index):
        if affine.is_constant_on(axis) or part == slice(None):
            continue
        shape = traveller.shapes.of(call.input)
        size = shape[axis] if shape is not None and len(shape) == affine.rank else None
        if not isinstance(size, int):
            return None
        places = torch.arange(size)[part]  # type: ignore[index]  # a slice
        if len(places) != affine.scale.shape[axis]:  # the piece is broadcast to more
            return None
        affine = embedded(affine, axis, places, size)
    return affine


def _are_plain_slices(index: tuple[object, ...]) -> bool:
    """Whether an index is made of slices with numbers only."""
    slices = [part for part in index if isinstance(part, slice)]
    ends = [end for part in slices for end in (part.start, part.stop, part.step)]
    return len(slices) == len(index) and all(end is None or isinstance(end, int) for end in ends)


def _split_axis(traveller: Traveller, split: fx.Node, source: fx.Node) -> int | None:
    call = read_call(traveller.program, split)
    rank = traveller.shapes.rank(source)
    return None if call is None or rank is None else axis_of(call.options["dim"], rank)


def sliced(call: Call, affine: Affine) -> Affine | None:
    """``x[:, 1:]`` slices the coefficients alike where they are not the same all along the axis."""
    index = call.options["index"]
    if not isinstance(index, tuple) or not _are_plain_slices(index) or len(index) > affine.rank:
        return None
    kept = tuple(
        slice(None) if affine.is_constant_on(axis) else part for axis, part in enumerate(index)
    )
    return affine.map(lambda c: c[kept])
