"""Operations that pick elements, put some in their places, or add to the border."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.importing.site import Operand, Site
    from bnfuse.importing.sizes import Size

_FURTHEST = 2**31 - 1  # files write the largest whole number for "to the end"
_PAD_MODES = {"constant": "constant", "reflect": "reflect", "edge": "replicate", "wrap": "circular"}
_WHOLE = slice(None)


def _slice(site: Site) -> Operand:
    """Slice along some axes; backwards along whole ones alone."""
    starts, ends = site.sizes(1), site.sizes(2)
    axes = site.ints(3) if site.has(3) else list(range(len(starts)))
    steps = site.ints(4) if site.has(4) else [1] * len(starts)
    given, flipped = site.value(0), []
    where: dict[int, slice] = {}
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        place = axis if axis >= 0 else axis + site.rank(0)
        if step > 0:
            where[place] = slice(start or None, _end(end), None if step == 1 else step)
        elif step == -1 and start in (-1, _FURTHEST) and isinstance(end, int) and end < -_FURTHEST:
            flipped.append(place)
        else:
            raise site.error(f"it goes backwards along axis {axis}, and not along all of it")
    if flipped:
        given = site.call(torch.flip, given, tuple(flipped))
    index = tuple(where.get(axis, _WHOLE) for axis in range(max(where, default=-1) + 1))
    return site.call(operator.getitem, given, index) if where else given


def _end(end: Size) -> Size | None:
    return None if isinstance(end, int) and end >= _FURTHEST else end


def _gather(site: Site) -> Operand:
    """Gather: one place of an axis, or as many as there are indices."""
    axis = site.attribute("axis", 0)
    axis = axis if axis >= 0 else axis + site.rank(0)
    index = site.known(1)
    if index is not None and index.ndim == 0:
        return site.call(torch.select, site.value(0), axis, int(index))
    if index is not None and index.ndim == 1 and (not index.numel() or int(index.min()) >= 0):
        return site.call(torch.index_select, site.value(0), axis, index)
    where = (*[_WHOLE] * axis, site.value(1))
    return site.call(operator.getitem, site.value(0), where)


def _gather_elements(site: Site) -> Operand:
    axis = site.attribute("axis", 0)
    return site.call(torch.gather, site.value(0), axis, _from_the_front(site, axis))


def _scatter_elements(site: Site) -> Operand:
    if site.attribute("reduction", "none") != "none":
        raise site.error("it combines what it writes with what was there")
    axis = site.attribute("axis", 0)
    places = _from_the_front(site, axis)
    return site.call(torch.scatter, site.value(0), axis, places, site.value(2))


def _from_the_front(site: Site, axis: int) -> Operand:
    """Return indices, those that count from the end counted from the front."""
    index = site.known(1)
    if index is not None and (not index.numel() or int(index.min()) >= 0):
        return index
    given = site.value(1)
    behind = site.call(torch.add, given, site.size(0, axis))
    return site.call(torch.where, site.call(torch.lt, given, 0), behind, given)


def _gather_nd(site: Site) -> Operand:
    """GatherND: an index along the first axes in each row of the indices."""
    if site.attribute("batch_dims", 0):
        raise site.error("it has axes of its own for each of a batch")
    return site.call(operator.getitem, site.value(0), _columns(site))


def _scatter_nd(site: Site) -> Operand:
    """ScatterND, likewise."""
    if site.attribute("reduction", "none") != "none":
        raise site.error("it combines what it writes with what was there")
    return site.call(torch.index_put, site.value(0), _columns(site), site.value(2))


def _columns(site: Site) -> tuple[Operand, ...]:
    index, count = site.value(1), site.fixed_size(1, -1)
    return tuple(site.call(torch.select, index, -1, column) for column in range(count))


def _pad(site: Site) -> Operand:
    """Pad; negative paddings crop."""
    pads = site.ints(1)
    mode = site.attribute("mode", "constant")
    axes = site.ints(3) if site.has(3) else list(range(len(pads) // 2))
    rank = site.rank(0)
    both = dict.fromkeys(range(rank), (0, 0))
    for place, axis in enumerate(axes):
        both[axis % rank] = (pads[place], pads[place + len(axes)])
    wanted = [n for axis in reversed(range(rank)) for n in both[axis]]
    while wanted[-2:] == [0, 0]:
        del wanted[-2:]
    if not wanted:
        return site.value(0)
    if mode == "constant":
        return site.call(F.pad, site.value(0), tuple(wanted), mode, site.number(2, 0.0))
    if mode not in _PAD_MODES or len(wanted) > 2 * (rank - 2):
        raise site.error(f"it pads batches or channels, or in the mode {mode}")
    if min(wanted) < 0:
        raise site.error(f"it crops in the mode {mode}")
    wanted += [0] * (2 * (rank - 2) - len(wanted))
    return site.call(F.pad, site.value(0), tuple(wanted), _PAD_MODES[mode])


def _triangle(site: Site) -> Operand:
    """Trilu: the part above a diagonal, or below it."""
    function = torch.triu if site.attribute("upper", 1) else torch.tril
    return site.call(function, site.value(0), int(site.number(1, 0)))


def _sampled(site: Site) -> Operand:
    """GridSample, whose modes were renamed with opset 20."""
    mode = site.attribute("mode", "linear")
    renamed = {"linear": "bilinear", "cubic": "bicubic"}.get(mode, mode)
    padding, corners = site.attribute("padding_mode", "zeros"), site.attribute("align_corners", 0)
    return site.call(F.grid_sample, site.value(0), site.value(1), renamed, padding, bool(corners))


def _einsum(site: Site) -> Operand:
    values = [site.value(index) for index in range(len(site.inputs))]
    return site.call(torch.einsum, site.attribute("equation", "").replace(" ", ""), *values)


def _one_hot(site: Site) -> Operand:
    """OneHot along the last axis or another, with two values of any type."""
    depth = int(site.number(1, 0))
    values = site.known(2)
    if values is None:
        raise site.error("its values are computed")
    places = site.call(torch.remainder, site.method("to", site.value(0), torch.int64), depth)
    hot = site.call(F.one_hot, places, depth)
    off, on = (values[index].item() for index in range(2))
    filled = site.call(torch.where, site.call(torch.eq, hot, 1), _as(values, on), _as(values, off))
    axis = site.attribute("axis", -1)
    return filled if axis == -1 else site.call(torch.movedim, filled, -1, axis)


def _as(values: Tensor, number: float) -> Tensor:
    return torch.tensor(number, dtype=values.dtype)


OPERATORS: dict[str, Callable[[Site], Operand]] = {
    "Slice": _slice,
    "Gather": _gather,
    "GatherElements": _gather_elements,
    "GatherND": _gather_nd,
    "ScatterElements": _scatter_elements,
    "ScatterND": _scatter_nd,
    "Pad": _pad,
    "Trilu": _triangle,
    "GridSample": _sampled,
    "Einsum": _einsum,
    "OneHot": _one_hot,
}
"""The operations that pick and put elements."""
