"""An affine moved through operations that turn channels into places of an image, or back."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from bnfuse.ops.picks import pair_of

if TYPE_CHECKING:
    from bnfuse.affine import Affine
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call


def pixel_shuffle(_: Traveller, call: Call, affine: Affine) -> Affine | None:
    """``pixel_shuffle`` spreads blocks of ``r²`` channels; each block needs one coefficient."""
    return _one_of_each(affine, call.options["upscale_factor"])


def undo_pixel_shuffle(_: Traveller, call: Call, affine: Affine) -> Affine | None:
    """Each channel after ``pixel_shuffle`` was a block of ``r²`` channels before."""
    return _block_of_each(affine, call.options["upscale_factor"])


def pixel_unshuffle(_: Traveller, call: Call, affine: Affine) -> Affine | None:
    """``pixel_unshuffle`` makes a block of ``r²`` channels of each."""
    return _block_of_each(affine, call.options["downscale_factor"])


def undo_pixel_unshuffle(_: Traveller, call: Call, affine: Affine) -> Affine | None:
    """Each block of ``r²`` channels after ``pixel_unshuffle`` was one before."""
    return _one_of_each(affine, call.options["downscale_factor"])


def may_pad(call: Call) -> bool:
    """Whether ``unfold`` may list zeros that are no elements of the value."""
    return pair_of(call.options["padding"]) != (0, 0)


def unfold(_: Traveller, call: Call, affine: Affine) -> Affine | None:
    """``unfold`` lists the ``k`` elements of each window for each channel, and padded zeros.

    ``(n, c, h, w)`` becomes ``(n, c k, windows)``, so each coefficient stands for ``k`` rows.
    """
    kernel = pair_of(call.options["kernel_size"])
    if kernel is None or affine.rank != 4 or not _is_constant_on_images(affine):
        return None
    if affine.has_shift and may_pad(call):
        return None
    rows = affine.map(lambda c: c.squeeze(-1))
    return rows if rows.is_constant_on(1) else _each_repeated(rows, 1, prod(kernel))


def undo_unfold(_: Traveller, call: Call, affine: Affine) -> Affine | None:
    """The rows of one channel after ``unfold`` need one coefficient, the windows as well."""
    kernel = pair_of(call.options["kernel_size"])
    if kernel is None or affine.rank != 3 or not affine.is_constant_on(2):
        return None
    if affine.has_shift and may_pad(call):
        return None
    rows = affine if affine.is_constant_on(1) else uniform_blocks(affine, 1, prod(kernel))
    return None if rows is None else rows.map(lambda c: c.unsqueeze(-1))


def _each_repeated(affine: Affine, axis: int, count: int) -> Affine:
    return affine.map(lambda c: c.repeat_interleave(count, dim=axis))


def _one_of_each(affine: Affine, factor: object) -> Affine | None:
    """Return the coefficients of blocks of ``r²`` channels, or None where one has several."""
    if affine.rank < 3 or not isinstance(factor, int):
        return None
    axis = affine.rank - 3
    if not _is_constant_on_images(affine):
        return None
    return affine if affine.is_constant_on(axis) else uniform_blocks(affine, axis, factor**2)


def _block_of_each(affine: Affine, factor: object) -> Affine | None:
    """Return the coefficients of channels each of which becomes ``r²``."""
    if affine.rank < 3 or not isinstance(factor, int) or not _is_constant_on_images(affine):
        return None
    axis = affine.rank - 3
    if affine.is_constant_on(axis):
        return affine
    return _each_repeated(affine, axis, factor**2)


def _is_constant_on_images(affine: Affine) -> bool:
    return affine.is_constant_on(affine.rank - 1) and affine.is_constant_on(affine.rank - 2)


def uniform_blocks(affine: Affine, axis: int, size: int) -> Affine | None:
    """Return one coefficient for each block along an axis, or None where one has several."""
    before, after = affine.scale.shape[:axis], affine.scale.shape[axis + 1 :]
    if affine.scale.shape[axis] % size:
        return None
    blocks = affine.map(lambda c: c.reshape(*before, -1, size, *after))
    first = blocks.map(lambda c: c.select(axis + 1, 0))
    same = all(
        torch.equal(whole, one.unsqueeze(axis + 1).expand_as(whole))
        for whole, one in ((blocks.scale, first.scale), (blocks.shift, first.shift))
    )
    return first if same else None
