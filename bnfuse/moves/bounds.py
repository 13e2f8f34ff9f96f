"""An affine moved through operations that choose between a value and something else.

With an increasing affine, ``s > 0``, the order of elements stays, so the larger one is the same::

    s max(a, b) + t = max(s a + t, s b + t)        likewise min
    clamp(s x + t, l, h) = s clamp(x, l, h) + t    where s l + t = l and s h + t = h

So a bound has to be what the affine makes of it: 0 for a scale alone, an infinite one always. What
a mask or a condition chooses has no order, so that any scale does::

    s where(m, a, b) + t = where(m, s a + t, s b + t)
    where(m, s x + t, v) = s where(m, x, v) + t    where s v + t = v

On the way down one value has the affine and the other has to be a bound or a filling like that.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import fx

from bnfuse.moves.arithmetic import constant_of, is_number
from bnfuse.moves.step import Moved
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.affine import Affine
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call
    from bnfuse.report import Decline


def up_through_choice(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Move an affine behind a choice to all values that it chooses from."""
    arms = _arms(call)
    values = [arm for arm in arms if _is_value(arm)]
    others = [arm for arm in arms if not _is_value(arm)]
    is_free = len(set(values)) == len(values) and _keeps_order(call, affine)
    if not values or not is_free or not all(_stays(traveller, one, affine) for one in others):
        return traveller.decline("no-linear-producer", f"{call.kind.value} in {call.name}")
    ranks = tuple((value, affine.rank) for value in values) if affine.is_placed else ()
    return (Moved(tuple((value, affine) for value in values), ranks=ranks),)


def down_through_choice(
    traveller: Traveller, call: Call, value: fx.Node, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Move an affine before a choice behind it, where the other possibility stays what it is."""
    arms = _arms(call)
    others = [arm for arm in arms if arm is not value]
    is_once = len(others) == len(arms) - 1 and _keeps_order(call, affine)
    if not is_once or not all(_stays(traveller, other, affine) for other in others):
        return traveller.decline("no-linear-reader", f"{call.kind.value} in {call.name}")
    ranks = ((call.node, affine.rank),) if affine.is_placed else ()
    return (Moved(((call.node, affine),), ranks=ranks),)


def keeps_bounds(call: Call, affine: Affine) -> bool:
    """Whether both bounds of a clamp are what an increasing affine makes of them."""
    names = ("min", "max") if "min" in call.options else ("min_val", "max_val")
    bounds = [call.options[name] for name in names if call.options[name] is not None]
    if not affine.is_positive or not all(is_number(bound) for bound in bounds):
        return False
    return all(is_fixed_point(affine, float(bound)) for bound in bounds)


def is_fixed_point(affine: Affine, value: Tensor | float) -> bool:
    """Whether ``s v + t = v`` everywhere; true of an infinite value and a scale above 0."""
    return bool((affine.scale * value + affine.shift == value).all())


def _arms(call: Call) -> tuple[Any, ...]:
    """Return what a call chooses from: not the mask or the condition that it chooses by."""
    if call.kind is Kind.FILL:
        return (call.operands[0], call.options["value"])
    return call.operands[:2]


def _is_value(arm: object) -> bool:
    return isinstance(arm, fx.Node) and arm.op != "get_attr"


def _keeps_order(call: Call, affine: Affine) -> bool:
    return call.kind is not Kind.MAXIMUM or affine.is_positive


def _stays(traveller: Traveller, arm: object, affine: Affine) -> bool:
    """Whether a constant is what the affine makes of it."""
    constant = constant_of(traveller, arm)
    if constant is None or (affine.rank > 0 and constant.ndim > affine.rank):
        return False
    sizes = zip(reversed(affine.scale.shape), reversed(constant.shape), strict=False)
    if any(1 not in pair and pair[0] != pair[1] for pair in sizes):
        return False
    return is_fixed_point(affine, constant.to(affine.scale.device))
