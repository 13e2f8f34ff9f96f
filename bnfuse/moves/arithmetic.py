"""An affine moved through sums, products and signs.

==============  =====================================  =====================================
operation       up: ``s op(..) + t``                   down: ``op(s x + t, ..)``
==============  =====================================  =====================================
``a + b``       ``(s a + t) + (s b)``                  ``s = 1``: ``(a + b) + t``
``a − b``       ``(s a + t) − (s b)``                  ``s = 1``: ``(a − b) ± t``
``x + c``       ``(s x + (s c + t − c)) + c``          ``s (x + c) + (t + c − s c)``
``c x``         ``c (s x + t / c)``, ``c ≠ 0``         ``s (c x) + c t``
``a b``         ``t = 0``: ``(s a) b``                 ``t = 0``: ``s (a b)``
``a / b``       ``t = 0``: ``(s a) / b``               ``t = 0``: ``s (a / b)``
``−x``          ``−(s x − t)``                         ``s (−x) − t``
==============  =====================================  =====================================

The scale of a sum goes to both arms and the shift to exactly one; the scale of a product of two
values goes to exactly one factor. Arms need the rank of the result, else the coefficients would
stand on another axis.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import fx

from bnfuse.affine import Affine, as_float64
from bnfuse.graph.readers import writes_in_place
from bnfuse.moves.step import Moved
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call
    from bnfuse.report import Decline


def constant_operand(traveller: Traveller, call: Call) -> tuple[int, Tensor] | None:
    """Return the position and the value, float64, of a call's first operand that is a constant."""
    for position, operand in enumerate(call.operands):
        if is_number(operand) or (isinstance(operand, fx.Node) and operand.op == "get_attr"):
            constant = constant_of(traveller, operand)
            return None if constant is None else (position, constant)
    return None


def is_number(operand: object) -> bool:
    """Whether an operand is a plain number."""
    return isinstance(operand, int | float) and not isinstance(operand, bool)


def constant_of(traveller: Traveller, operand: object) -> Tensor | None:
    """Return the value of a constant, float64, or None.

    A number, or a floating-point tensor of the model that no forward writes.
    """
    if is_number(operand):
        return torch.tensor(float(str(operand)), dtype=torch.float64)
    if not isinstance(operand, fx.Node) or operand.op != "get_attr":
        return None
    path = str(operand.target)
    tensor = traveller.program.tensor(path)
    if tensor is None or path in traveller.program.written:
        return None
    is_real = tensor.is_floating_point() and tensor.layout is torch.strided
    return as_float64(tensor) if is_real else None


def affine_of_arithmetic(traveller: Traveller, call: Call, rank: int) -> Affine | None:
    """Return the affine that an operation with a constant is on a value with ``rank`` axes."""
    found = constant_operand(traveller, call)
    if found is None or call.options.get("rounding_mode") is not None:
        return None
    position, constant = found
    if constant.ndim > rank or call.options.get("alpha", 1) != 1:
        return None
    if constant.ndim:
        constant = constant.reshape(*[1] * (rank - constant.ndim), *constant.shape)
    if call.kind is Kind.ADD:
        return Affine.of(1.0, constant)
    if call.kind is Kind.SUBTRACT:
        return Affine.of(1.0, -constant) if position == 1 else Affine.of(-1.0, constant)
    if call.kind is Kind.MULTIPLY:
        return Affine.of(constant, 0.0)
    if call.kind is Kind.DIVIDE and position == 1 and bool((constant != 0).all()):
        return Affine.of(1 / constant, 0.0)
    return None


def up_through_arithmetic(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Move an affine after an operation before it."""
    if call.kind is Kind.NEGATE:
        return (Moved(((call.input, Affine(affine.scale, -affine.shift)),)),)
    values = [operand for operand in call.operands if isinstance(operand, fx.Node)]
    own = affine_of_arithmetic(traveller, call, max(affine.rank, 1)) if affine.rank else None
    if own is not None:
        return _up_through_constant(traveller, call, affine, own)
    if not _are_two_values(call, values):
        return traveller.decline("no-linear-producer", f"{call.name}, {call.kind.value}")
    one, other = values
    scale = affine.without_shift()
    ranks = tuple((value, affine.rank) for value in values) if affine.is_placed else ()
    if call.kind is Kind.ADD:
        return (
            Moved(((one, affine), (other, scale)), ranks=ranks),
            Moved(((one, scale), (other, affine)), ranks=ranks),
        )
    if call.kind is Kind.SUBTRACT:
        return (Moved(((one, affine), (other, scale)), ranks=ranks),)
    if affine.has_shift:
        return traveller.decline(
            "no-linear-producer", f"{call.name}, a {call.kind.value} of two values"
        )
    # Written in place, the first factor is the result, and may be read as such under its own name.
    is_free = call.kind is Kind.MULTIPLY and not writes_in_place(call.node)
    arms = values if is_free else [one]
    return tuple(
        Moved(((arm, affine),), ranks=((arm, affine.rank),) if affine.is_placed else ())
        for arm in arms
    )


def _up_through_constant(
    traveller: Traveller, call: Call, affine: Affine, own: Affine
) -> tuple[Moved, ...] | Decline:
    """Swap ``y = s (c x + d) + t`` into ``c (s x + (s d + t − d) / c) + d``."""
    if bool((own.scale == 0).any()):
        return traveller.decline("no-linear-producer", f"a product with 0 in {call.name}")
    if not _fit(affine, own):
        return traveller.decline("other-axis", call.name)
    shift = (affine.scale * own.shift + affine.shift - own.shift) / own.scale
    return (Moved(((call.input, Affine.of(affine.scale.expand(shift.shape), shift)),)),)


def down_through_arithmetic(
    traveller: Traveller, call: Call, value: fx.Node, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Move an affine before an operation after it."""
    if call.kind is Kind.NEGATE:
        return (Moved(((call.node, Affine(affine.scale, -affine.shift)),)),)
    values = [operand for operand in call.operands if isinstance(operand, fx.Node)]
    own = affine_of_arithmetic(traveller, call, affine.rank) if affine.rank else None
    if own is not None:
        if not _fit(affine, own):
            return traveller.decline("other-axis", call.name)
        # c (s x + t) + d = s (c x + d) + (c t + d − s d)
        shift = own.scale * affine.shift + own.shift - affine.scale * own.shift
        return (Moved(((call.node, Affine.of(affine.scale.expand(shift.shape), shift)),)),)
    if not _are_two_values(call, values):
        return traveller.decline("no-linear-reader", f"{call.name}, {call.kind.value}")
    ranks = ((call.node, affine.rank),) if affine.is_placed else ()
    if call.kind in (Kind.ADD, Kind.SUBTRACT):
        if affine.has_scale:
            return traveller.decline("no-linear-reader", f"a {call.kind.value} in {call.name}")
        is_taken_away = call.kind is Kind.SUBTRACT and values[1] is value
        sign = -1 if is_taken_away else 1
        return (Moved(((call.node, Affine(affine.scale, sign * affine.shift)),), ranks=ranks),)
    if affine.has_shift or (call.kind is Kind.DIVIDE and values[1] is value):
        return traveller.decline("no-linear-reader", f"a {call.kind.value} in {call.name}")
    return (Moved(((call.node, affine),), ranks=ranks),)


def _fit(affine: Affine, own: Affine) -> bool:
    """Whether the coefficients of two affines broadcast against each other.

    They do not where a value is taken to have another rank than it has.
    """
    sizes = zip(reversed(affine.scale.shape), reversed(own.scale.shape), strict=False)
    return all(1 in pair or pair[0] == pair[1] for pair in sizes)


def _are_two_values(call: Call, values: list[fx.Node]) -> bool:
    """Whether a call combines two different values and nothing else."""
    is_plain = call.options.get("alpha", 1) == 1 and not call.options.get("rounding_mode")
    return is_plain and len(values) == 2 and values[0] is not values[1]
