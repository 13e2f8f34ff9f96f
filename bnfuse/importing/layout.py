"""Operations that move elements and keep all of them."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.importing.site import Operand, Site
    from bnfuse.importing.sizes import Size


def _reshape(site: Site) -> Operand:
    """Reshape: a 0 stands for the size that the axis has.

    Sizes that the file fixes, or that are those of an input, are written as such rather than as
    what they are computed from: so reshapes that undo others can be seen to.
    """
    wanted = site.sizes(1)
    if not site.attribute("allowzero", 0):
        wanted = [site.size(0, axis) if size == 0 else size for axis, size in enumerate(wanted)]
    if not site.is_constant:
        known = [site.size_of(site.outputs[0], axis) for axis in range(len(wanted))]
        pairs = zip(wanted, known, strict=True)
        wanted = [size if better is None else better for size, better in pairs]
    return site.call(torch.reshape, site.value(0), tuple(wanted))


def _flatten(site: Site) -> Operand:
    """Flatten: a matrix of what is before an axis and what is from it on."""
    axis, rank = site.attribute("axis", 1), site.rank(0)
    axis = axis + rank if axis < 0 else axis
    if axis == 1 and rank > 1:
        return site.call(torch.flatten, site.value(0), 1)
    if axis == 0:
        return site.call(torch.reshape, site.value(0), (1, -1))
    if axis == rank:
        return site.call(torch.reshape, site.value(0), (-1, 1))
    columns = math.prod(site.fixed_size(0, index) for index in range(axis, rank))
    return site.call(torch.reshape, site.value(0), (-1, columns))


def _transpose(site: Site) -> Operand:
    order = site.attribute("perm", None) or tuple(reversed(range(site.rank(0))))
    return site.call(torch.permute, site.value(0), tuple(order))


def _squeeze(site: Site) -> Operand:
    """Squeeze: axes of one element, all that the file fixes to one if none are named."""
    axes, rank = site.axes(), site.rank(0)
    if axes is None:
        axes = [axis for axis in range(rank) if site.fixed_size(0, axis) == 1]
    given = site.value(0)
    for axis in sorted((axis % rank for axis in axes), reverse=True):
        given = site.call(torch.squeeze, given, axis)
    return given


def _unsqueeze(site: Site) -> Operand:
    """Unsqueeze: the axes count those that it adds."""
    axes = site.ints(1)
    given = site.value(0)
    if len(axes) > 1 or axes[0] < 0:
        rank = site.rank(0) + len(axes)
        axes = sorted(axis % rank for axis in axes)
    for axis in axes:
        given = site.call(torch.unsqueeze, given, axis)
    return given


def _concatenation(site: Site) -> Operand:
    values = [site.value(index) for index in range(len(site.inputs))]
    return site.call(torch.cat, values, site.attribute("axis", 0))


def _split(site: Site) -> tuple[Operand, ...]:
    """Split: at given sizes, or into as many equal pieces as there are results."""
    axis, count = site.attribute("axis", 0), len(site.outputs)
    if site.has(1):
        sizes = site.ints(1)
    else:
        whole = site.fixed_size(0, axis)
        each = -(-whole // count)
        sizes = [max(0, min(each, whole - each * index)) for index in range(count)]
    if len(sizes) != count:
        raise site.error(f"it has {count} results and {len(sizes)} sizes")
    return site.several(count, torch.split, site.value(0), sizes, axis)


def _expand(site: Site) -> Operand:
    """Expand: sizes of one keep what there is."""
    wanted = site.sizes(1)
    dims = site.dims(0)
    if dims is None:
        raise site.error("the file does not tell how many axes its input has")
    missing: list[Size] = [1] * (len(dims) - len(wanted))
    wanted = missing + wanted
    new = len(wanted) - len(dims)
    target: list[Size] = [
        -1 if size == 1 and axis >= new else size for axis, size in enumerate(wanted)
    ]
    return site.method("expand", site.value(0), *target)


def _tile(site: Site) -> Operand:
    return site.method("repeat", site.value(0), *site.sizes(1))


def _depth_to_space(site: Site) -> Operand:
    """DepthToSpace: a pixel shuffle, or one whose channels stand inside the blocks."""
    block = site.attribute("blocksize", 1)
    if site.attribute("mode", "DCR") == "CRD":
        return site.call(F.pixel_shuffle, site.value(0), block)
    n, h, w = (site.size(0, axis) for axis in (0, 2, 3))
    channels = site.fixed_size(0, 1) // block**2
    parts = site.call(torch.reshape, site.value(0), (n, block, block, channels, h, w))
    moved = site.call(torch.permute, parts, (0, 3, 4, 1, 5, 2))
    return site.call(torch.flatten, site.call(torch.flatten, moved, 4, 5), 2, 3)


def _space_to_depth(site: Site) -> Operand:
    """SpaceToDepth: channels inside blocks."""
    block = site.attribute("blocksize", 1)
    split = site.call(torch.unflatten, site.value(0), 3, (-1, block))
    split = site.call(torch.unflatten, split, 2, (-1, block))
    moved = site.call(torch.permute, split, (0, 3, 5, 1, 2, 4))
    return site.call(torch.flatten, moved, 1, 3)


OPERATORS: dict[str, Callable[[Site], Operand | tuple[Operand, ...]]] = {
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": _transpose,
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": _concatenation,
    "Split": _split,
    "Expand": _expand,
    "Tile": _tile,
    "DepthToSpace": _depth_to_space,
    "SpaceToDepth": _space_to_depth,
}
"""The operations that move elements."""
