"""An affine moved through operations on single elements that treat it in a way of their own.

==============  ==================================  ==================================
operation       up: ``s op(x) + t``                 down: ``op(s x + t)``
==============  ==================================  ==================================
``abs(x)``      ``abs(s x)``, ``s > 0, t = 0``      ``abs(s) abs(x)``, ``t = 0``
``a σ(b)``      ``(s a) σ(b)``, ``t = 0``           ``s (a σ(b))``, ``t = 0``
``softmax(x)``  none                                ``softmax(x)``, ``s = 1``
==============  ==================================  ==================================

``glu`` has both factors in one value, ``a`` before ``b`` along an axis, so ``b`` takes ``s = 1``.
What is added to all elements along the axis of a softmax, or of its logarithm, has no effect::

    exp(x_i + t) / Σ exp(x_j + t) = exp(x_i) / Σ exp(x_j)
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnfuse.affine import Affine, joined, pieces
from bnfuse.moves.step import Moved
from bnfuse.ops.shape_rules import axis_of

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call


def up_through_absolute(_: Traveller, call: Call, affine: Affine) -> tuple[Moved, ...]:
    """Move a positive scale before an absolute value."""
    if affine.has_shift or not affine.is_positive:
        return ()
    ranks = ((call.input, affine.rank),) if affine.is_placed else ()
    return (Moved(((call.input, affine),), ranks=ranks),)


def down_through_absolute(
    _: Traveller, call: Call, __: fx.Node, affine: Affine
) -> tuple[Moved, ...]:
    """Move a scale of any sign behind an absolute value, where it has none."""
    if affine.has_shift:
        return ()
    return (Moved(((call.node, Affine(affine.scale.abs(), affine.shift)),)),)


def up_through_gate(traveller: Traveller, call: Call, affine: Affine) -> tuple[Moved, ...]:
    """Move a scale to the half of a value that a gate lets through."""
    axis = axis_of(call.options["dim"], affine.rank)
    shape = traveller.shapes.of(call.node)
    if affine.rank < 2 or axis is None or affine.has_shift:
        return ()
    size = shape[axis] if shape is not None and len(shape) == affine.rank else None
    if not isinstance(size, int) or affine.scale.shape[axis] not in (1, size):
        return ()
    none = Affine.of(affine.scale.new_ones([1] * affine.rank), 0.0)
    whole = joined([affine, none], axis, [size, size])
    return (Moved(((call.input, whole),), ranks=((call.input, affine.rank),)),)


def down_through_gate(_: Traveller, call: Call, __: fx.Node, affine: Affine) -> tuple[Moved, ...]:
    """Move a scale of the half that is let through behind the gate."""
    axis = axis_of(call.options["dim"], affine.rank)
    if affine.rank < 2 or axis is None or affine.has_shift or affine.is_constant_on(axis):
        return ()
    half = affine.scale.shape[axis] // 2
    one, gate = pieces(affine, axis, [half, half])
    return () if gate.has_scale else (Moved(((call.node, one),)),)


def down_into_softmax(_: Traveller, call: Call, __: fx.Node, affine: Affine) -> tuple[Moved, ...]:
    """Drop a shift that is the same all along the axis: nothing of it is left."""
    axis = axis_of(call.options["dim"], affine.rank) if affine.rank else 0
    if affine.has_scale or axis is None or call.options["dtype"] is not None:
        return ()
    if affine.rank == 1 or (affine.rank and not _is_same_along(affine.shift, axis)):
        return ()  # with one axis it is the last of an unknown number of them
    ranks = ((call.node, affine.rank),) if affine.is_placed else ()
    return (Moved(ranks=ranks),)


def _is_same_along(coefficients: torch.Tensor, axis: int) -> bool:
    return torch.equal(coefficients, coefficients.narrow(axis, 0, 1).expand_as(coefficients))
