"""An affine moved through operations that only move elements.

The coefficients broadcast against the value, so what the operation does to the value is done to
them. An axis along which they are constant has size 1 and stands for an axis of any size.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnfuse.affine.values import Affine


def permuted(affine: Affine, order: Sequence[int]) -> Affine:
    """Return the affine of ``x.permute(order)`` from that of ``x``."""
    return affine.map(lambda c: c.permute(*order))


def unpermuted(affine: Affine, order: Sequence[int]) -> Affine:
    """Return the affine of ``x`` from that of ``x.permute(order)``: the inverse permutation."""
    inverse = sorted(range(len(order)), key=lambda axis: order[axis])
    return affine.map(lambda c: c.permute(*inverse))


def regroup(
    coefficients: Tensor,
    groups: Sequence[tuple[Sequence[int], Sequence[int]]],
    given: Sequence[object],
    target: Sequence[object],
) -> Tensor | None:
    """Return the coefficients of a reshaped value.

    Each group of neighbouring axes becomes another group with as many elements, in the same order.
    Where the coefficients are constant along a whole group they stay so, whatever its sizes.
    Otherwise the sizes have to be numbers: ``flatten(1)`` of ``(n, c, h, w)`` repeats that of
    each channel ``h * w`` times, in blocks.

    Args:
        coefficients: One axis for each of the value's.
        groups: Pairs of axes before and axes after, in order.
        given: The sizes of the value before.
        target: Its sizes after.

    Returns:
        None where a size that is needed is unknown.
    """
    expanded: list[int] = []
    shape: list[int] = []
    for before, after in groups:
        if all(coefficients.shape[axis] == 1 for axis in before):
            expanded += [1] * len(before)
            shape += [1] * len(after)
            continue
        sizes = [given[axis] for axis in before]
        wanted = [target[axis] for axis in after]
        if len(before) == len(after) == 1:
            sizes = wanted = [coefficients.shape[before[0]]]
        if not _numbers(sizes) or not _numbers(wanted):
            return None
        expanded += [int(str(size)) for size in sizes]
        shape += [int(str(size)) for size in wanted]
    if prod(expanded) != prod(shape):
        return None
    return coefficients.expand(expanded).reshape(shape)


def _numbers(sizes: Sequence[object]) -> bool:
    return all(isinstance(size, int) and size >= 0 for size in sizes)


def joined(arms: Sequence[Affine], axis: int, sizes: Sequence[int]) -> Affine:
    """Return the affine of a concatenation from those of its arms, along its axis."""

    def expand(coefficients: Tensor, size: int, shape: Sequence[int]) -> Tensor:
        wanted = [size if a == axis else n for a, n in enumerate(shape)]
        return coefficients.expand(wanted)

    shapes = [arm.scale.shape for arm in arms]
    common = [max(shape[a] for shape in shapes) for a in range(len(shapes[0]))]
    scales = [expand(arm.scale, n, common) for arm, n in zip(arms, sizes, strict=True)]
    shifts = [expand(arm.shift, n, common) for arm, n in zip(arms, sizes, strict=True)]
    return type(arms[0])(torch.cat(scales, axis), torch.cat(shifts, axis))


def pieces(affine: Affine, axis: int, sizes: Sequence[int]) -> list[Affine]:
    """Return the affines of consecutive pieces of a value along an axis."""
    if affine.is_constant_on(axis):
        return [affine] * len(sizes)
    starts = [sum(sizes[:count]) for count in range(len(sizes))]
    return [_piece(affine, axis, *piece) for piece in zip(starts, sizes, strict=True)]


def _piece(affine: Affine, axis: int, start: int, size: int) -> Affine:
    return affine.map(lambda c: c.narrow(axis, start, size))


def embedded(affine: Affine, axis: int, places: Tensor, size: int) -> Affine:
    """Return the affine of a value of which ``x[places]`` along an axis has the given one.

    Elsewhere on the axis it is ``s = 1, t = 0``.
    """
    shape = [size if a == axis else n for a, n in enumerate(affine.scale.shape)]
    scale, shift = affine.scale.new_ones(shape), affine.shift.new_zeros(shape)
    index = places.to(scale.device)
    scale.index_copy_(axis, index, affine.scale.contiguous())
    shift.index_copy_(axis, index, affine.shift.contiguous())
    return type(affine)(scale, shift)


def selected(affine: Affine, axis: int, index: int) -> Affine:
    """Return the affine of ``x.select(axis, index)``."""
    place = 0 if affine.is_constant_on(axis) else index
    return affine.map(lambda c: c.select(axis, place))


def picked_at(affine: Affine, axis: int, places: Tensor) -> Affine:
    """Return the affine of ``x.index_select(axis, places)``; it must not be constant there."""
    return affine.map(lambda c: c.index_select(axis, places.to(c.device)))


def put_back(affine: Affine, axis: int, places: Tensor, size: int) -> Affine | None:
    """Return the affine of ``x`` from that of ``x.index_select(axis, places)``.

    Where nothing is picked it is ``s = 1, t = 0``. None where one element has several coefficients.
    """
    before = embedded(affine, axis, places, size)
    again = picked_at(before, axis, places)
    pairs = ((again.scale, affine.scale), (again.shift, affine.shift))
    return before if all(torch.equal(one, other) for one, other in pairs) else None
