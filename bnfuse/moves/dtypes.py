"""Arithmetic may be left out, and casts passed, where a value is sure to have a dtype already."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.moves.step import Moved
from bnfuse.ops.dtypes import FLOATING, cast_to
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    import torch
    from torch import fx

    from bnfuse.affine import Affine
    from bnfuse.moves.origin import Origin
    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call


def keeps_dtype(traveller: Traveller, origin: Origin) -> bool:
    """Whether what an affine is applied to has the dtype of its result.

    ``image / 255`` makes floating-point numbers of integers; without it the layer behind it would
    be given integers. A tensor of float32 makes float32 of float16. A batch norm accepts nothing
    but floating-point numbers and returns what it is given.
    """
    if origin.call.kind is Kind.BATCH_NORM:
        return True
    return _is_one_of(traveller, origin.value, origin.dtypes or FLOATING)


def up_through_cast(traveller: Traveller, call: Call, affine: Affine) -> tuple[Moved, ...]:
    """Move an affine before a cast to the dtype that the value is sure to have."""
    if not _casts_nothing(traveller, call):
        return ()
    ranks = ((call.input, affine.rank),) if affine.is_placed else ()
    return (Moved(((call.input, affine),), ranks=ranks),)


def down_through_cast(
    traveller: Traveller, call: Call, _: fx.Node, affine: Affine
) -> tuple[Moved, ...]:
    """Move an affine behind a cast to the dtype that the value is sure to have."""
    return (Moved(((call.node, affine),)),) if _casts_nothing(traveller, call) else ()


def _casts_nothing(traveller: Traveller, call: Call) -> bool:
    """Whether a value has the dtype already that it is cast to: rounding passes no affine."""
    wanted = cast_to(call)
    return wanted is not None and _is_one_of(traveller, call.input, frozenset({wanted}))


def _is_one_of(traveller: Traveller, value: fx.Node, wanted: frozenset[torch.dtype]) -> bool:
    """Whether a value is sure to have one of some dtypes."""
    possible = traveller.program.dtypes.of(value)
    return bool(possible) and possible <= wanted
