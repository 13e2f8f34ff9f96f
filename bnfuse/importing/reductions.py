"""Operations that reduce axes, or run along one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.importing.site import Operand, Site

    Reduction = Callable[[Site, Operand, tuple[int, ...], bool], Operand]


def _reducing(reduction: Reduction) -> Callable[[Site], Operand]:
    """Return the rule of a reduction: over some axes, all, or none."""

    def convert(site: Site) -> Operand:
        axes = site.axes()
        if not axes and site.attribute("noop_with_empty_axes", 0):
            axes = []
        elif not axes:
            axes = list(range(site.rank(0)))
        keeps = bool(site.attribute("keepdims", 1))
        return reduction(site, site.value(0), tuple(axes), keeps) if axes else _untouched(site)

    return convert


def _untouched(site: Site) -> Operand:
    if site.kind not in ("ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd"):
        raise site.error("it reduces no axis, and still computes something of each element")
    return site.value(0)


def _mean(site: Site, given: Operand, axes: tuple[int, ...], keeps: bool) -> Operand:
    return site.call(torch.mean, given, axes, keeps)


def _sum(site: Site, given: Operand, axes: tuple[int, ...], keeps: bool) -> Operand:
    """Whole numbers keep their dtype, which PyTorch would widen."""
    dtype = site.dtype(0)
    if dtype is None:
        raise site.error("the file does not tell the type of its input")
    if dtype.is_floating_point or dtype is torch.int64:
        return site.call(torch.sum, given, axes, keeps)
    return site.call(torch.sum, given, axes, keeps, dtype=dtype)


def _max(site: Site, given: Operand, axes: tuple[int, ...], keeps: bool) -> Operand:
    return site.call(torch.amax, given, axes, keeps)


def _min(site: Site, given: Operand, axes: tuple[int, ...], keeps: bool) -> Operand:
    return site.call(torch.amin, given, axes, keeps)


def _product(site: Site, given: Operand, axes: tuple[int, ...], keeps: bool) -> Operand:
    """One axis at a time; the last first, so that the others stay where they are."""
    dtype, rank = site.dtype(0), site.rank(0)
    for axis in sorted((axis % rank for axis in axes), reverse=True):
        given = site.call(torch.prod, given, axis, keeps, dtype=dtype)
    return given


def _absolutes(site: Site, given: Operand, axes: tuple[int, ...], keeps: bool) -> Operand:
    return _sum(site, site.call(torch.abs, given), axes, keeps)


def _squares(site: Site, given: Operand, axes: tuple[int, ...], keeps: bool) -> Operand:
    return _sum(site, site.call(torch.mul, given, given), axes, keeps)


def _norm(site: Site, given: Operand, axes: tuple[int, ...], keeps: bool) -> Operand:
    return site.call(torch.sqrt, _squares(site, given, axes, keeps))


def _log_of_sum(site: Site, given: Operand, axes: tuple[int, ...], keeps: bool) -> Operand:
    return site.call(torch.log, _sum(site, given, axes, keeps))


def _log_of_powers(site: Site, given: Operand, axes: tuple[int, ...], keeps: bool) -> Operand:
    return site.call(torch.logsumexp, given, axes, keeps)


def _place(function: Callable[..., Operand]) -> Callable[[Site], Operand]:
    """Return the rule of ArgMax or ArgMin."""

    def convert(site: Site) -> Operand:
        if site.attribute("select_last_index", 0):
            raise site.error("it picks the last of several extrema")
        axis, keeps = site.attribute("axis", 0), bool(site.attribute("keepdims", 1))
        return site.call(function, site.value(0), axis, keeps)

    return convert


def _largest(site: Site) -> tuple[Operand, ...]:
    """TopK: the values and their places, ordered."""
    (count,) = site.ints(1)
    is_largest, is_sorted = (bool(site.attribute(name, 1)) for name in ("largest", "sorted"))
    axis = site.attribute("axis", -1)
    return site.several(2, torch.topk, site.value(0), count, axis, is_largest, is_sorted)


def _cumulative(site: Site) -> Operand:
    """CumSum; reversed, or without the element itself."""
    (axis,) = site.ints(1)
    given = site.value(0)
    turns = bool(site.attribute("reverse", 0))
    turned = site.call(torch.flip, given, (axis,)) if turns else given
    result = site.call(torch.cumsum, turned, axis, dtype=site.dtype(0))
    if site.attribute("exclusive", 0):
        result = site.call(torch.sub, result, turned)
    return site.call(torch.flip, result, (axis,)) if turns else result


_REDUCTIONS: dict[str, Reduction] = {
    "ReduceMean": _mean,
    "ReduceSum": _sum,
    "ReduceMax": _max,
    "ReduceMin": _min,
    "ReduceProd": _product,
    "ReduceL1": _absolutes,
    "ReduceL2": _norm,
    "ReduceSumSquare": _squares,
    "ReduceLogSum": _log_of_sum,
    "ReduceLogSumExp": _log_of_powers,
}

OPERATORS: dict[str, Callable[[Site], Operand | tuple[Operand, ...]]] = {
    **{name: _reducing(reduction) for name, reduction in _REDUCTIONS.items()},
    "ArgMax": _place(torch.argmax),
    "ArgMin": _place(torch.argmin),
    "TopK": _largest,
    "CumSum": _cumulative,
}
"""The reductions."""
