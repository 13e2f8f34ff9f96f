"""An affine moved down through a clamp or a rectifier whose bounds move with it.

::

    x ── s, t ── clamp(l, h) ──          x ── clamp((l - t) / s, (h - t) / s) ── s, t ──

``bnfuse.affine.bounds`` has the formula, for scales of any sign. The bounds become tensors, with a
number for each channel: one operation where two were. So it is tried last, where an affine can
neither go up nor leave the bounds as they are, and only where all that reads the clamp takes the
affine.

Where what reads the clamp takes no shift, such as a convolution that pads with zeros, ``t / s`` is
added to the clamp's result, and the scale goes on alone.

An activation that writes its result over its input is replaced by a clamp that does not. That is
the same where nothing else reads what it writes over.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnfuse.affine import through_clamp, with_shift
from bnfuse.graph.readers import only_reader, writes_in_place
from bnfuse.moves.pooling import down_unchanged
from bnfuse.moves.step import Clamp, Moved
from bnfuse.ops.clamps import bounds_of
from bnfuse.ops.fresh import makes_new

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.affine import Affine
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call


def down_through_clamp(
    traveller: Traveller, call: Call, value: fx.Node, affine: Affine
) -> tuple[Moved, ...]:
    """Move an affine behind a clamp: with its bounds as they are, else with others."""
    unchanged = () if is_in_place(call) else down_unchanged(traveller, call, value, affine)
    bounds = bounds_of(traveller.program, call) if traveller.with_bounds else None
    if unchanged or bounds is None or bounds.low.ndim > affine.rank:
        return unchanged
    ways = [through_clamp(affine, bounds, _largest(traveller))]
    if ways[0][0].has_shift:
        ways.append(with_shift(*ways[0]))
    ranks = ((call.node, affine.rank),) if affine.is_placed else ()
    return tuple(
        Moved(((call.node, after),), ranks=ranks, clamps=(Clamp(call, moved),))
        for after, moved in ways
        if moved.operations <= traveller.with_bounds
    )


def is_in_place(call: Call) -> bool:
    """Whether a call writes its result over its input."""
    return writes_in_place(call.node) or bool(call.options.get("inplace"))


def is_replaceable(traveller: Traveller, call: Call, value: fx.Node) -> bool:
    """Whether a clamp that writes over its input can be one that does not.

    Args:
        traveller: The affine that is to pass it.
        call: The clamp.
        value: Its input: a tensor of its own that nothing else reads.
    """
    program = traveller.program
    return (
        traveller.with_bounds > 0
        and not call.hooked
        and bounds_of(program, call) is not None
        and only_reader(value) is call.node
        and makes_new(program, value)
        and not writes_in_place(value)
    )


def _largest(traveller: Traveller) -> float:
    """Return the largest number of the value's dtype, as far as the affine's own tensors tell."""
    known = traveller.dtypes or {torch.float32}
    return min(torch.finfo(dtype).max for dtype in known)
