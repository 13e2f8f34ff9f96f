"""An affine moved through activations, pooling, resizing and padding.

A rectifier keeps a positive scale, ``relu(s x) = s relu(x)`` for ``s > 0``, and no shift. The
maximum of a window keeps a positive scale and any shift. An average keeps any scale, and a shift
where it is a true mean: where no padded zero is counted and nothing else than the count divides.
Resizing and adaptive averages are sums with weights that add up to 1. Zero padding keeps a scale
alone.

All of it holds along the axes that are pooled only where the coefficients are the same there. The
rules read the same in both directions.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.moves.bounds import keeps_bounds
from bnfuse.moves.step import Moved
from bnfuse.ops.shape_rules import axis_of, spatial_axes
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

    from bnfuse.affine import Affine
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call


def up_unchanged(_: Traveller, call: Call, affine: Affine) -> tuple[Moved, ...]:
    """Put an affine before an operation as it is, where that is the same."""
    if not passes(call, affine):
        return ()
    ranks = ((call.input, affine.rank),) if affine.is_placed else ()
    return (Moved(((call.input, affine),), ranks=ranks),)


def down_unchanged(_: Traveller, call: Call, __: fx.Node, affine: Affine) -> tuple[Moved, ...]:
    """Put an affine behind an operation as it is, where that is the same."""
    return (Moved(((call.node, affine),)),) if passes(call, affine) else ()


def passes(call: Call, affine: Affine) -> bool:
    """Whether an affine is the same before and after an operation.

    Args:
        call: The operation: an activation, a pooling, a resizing, a padding or a copy.
        affine: Its coefficients.
    """
    if call.kind in _ELEMENTWISE:
        return _ELEMENTWISE[call.kind](call, affine)
    return _is_constant_where_pooled(call, affine) and _POOLED[call.kind](call, affine)


def _passes_rectifier(_: Call, affine: Affine) -> bool:
    return affine.is_positive and not affine.has_shift


def _passes_average(call: Call, affine: Affine) -> bool:
    return not affine.has_shift or _is_true_mean(call)


def _passes_maximum(call: Call, affine: Affine) -> bool:
    return affine.is_positive and not call.options["return_indices"]


def _passes_cumulative_sum(call: Call, affine: Affine) -> bool:
    return not affine.has_shift and _is_constant_on_sum(call, affine)


def _is_constant_on_sum(call: Call, affine: Affine) -> bool:
    """Whether a cumulative sum, of values of one dtype, adds up elements with one scale."""
    if affine.rank <= 1 or call.options["dtype"] is not None:
        return affine.rank == 0 and call.options["dtype"] is None
    axis = axis_of(call.options["dim"], affine.rank)
    return axis is not None and affine.is_constant_on(axis)


def _is_constant_where_pooled(call: Call, affine: Affine) -> bool:
    """Whether the coefficients are the same along the axes that an operation works on.

    A coefficient for the last axis of a value of any rank may stand on one of those.
    """
    if affine.rank <= 1:
        return affine.rank == 0
    return _is_constant_on_last(affine, _axes(call))


def _axes(call: Call) -> int | None:
    """Return over how many last axes an operation works, or None where that is not known."""
    if call.kind is Kind.PADDING:
        amounts = call.options["padding"]
        return len(amounts) // 2 if isinstance(amounts, list | tuple) else None
    if call.kind is Kind.RESIZE:
        return -2  # all but the first two
    return spatial_axes(call) or None


def _is_constant_on_last(affine: Affine, count: int | None) -> bool:
    if count is None:
        return False
    first = affine.rank - count if count >= 0 else 2
    return first >= 0 and all(affine.is_constant_on(axis) for axis in range(first, affine.rank))


def _is_true_mean(call: Call) -> bool:
    """Whether every output of an average pool is the mean of real elements."""
    padding = call.options["padding"]
    amounts = padding if isinstance(padding, list | tuple) else (padding,)
    is_unpadded = all(amount == 0 for amount in amounts)
    counts_padding = call.options["count_include_pad"] is not False
    return not call.options.get("divisor_override") and (is_unpadded or not counts_padding)


def _passes_padding(call: Call, affine: Affine) -> bool:
    """Whether the padded elements are what the affine makes of them."""
    if call.options["mode"] != "constant":
        return True
    value = call.options["value"]
    fill = 0.0 if value is None else value
    if not isinstance(fill, int | float):
        return False
    return bool((affine.scale * fill + affine.shift == fill).all())


_ELEMENTWISE: dict[Kind, Callable[[Call, Affine], bool]] = {
    Kind.COPY: lambda _, __: True,
    Kind.RECTIFIER: _passes_rectifier,
    Kind.CLAMP: keeps_bounds,
    Kind.CUMULATIVE_SUM: _passes_cumulative_sum,
}
_POOLED: dict[Kind, Callable[[Call, Affine], bool]] = {
    Kind.RESIZE: lambda _, __: True,
    Kind.ADAPTIVE_AVERAGE: lambda _, __: True,
    Kind.AVERAGE_POOL: _passes_average,
    Kind.MAX_POOL: _passes_maximum,
    Kind.PADDING: _passes_padding,
}
UNCHANGED = (*_ELEMENTWISE, *_POOLED)
"""Operations that keep an affine as it is, or let none pass."""
