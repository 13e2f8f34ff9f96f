"""Functions that stand in an optimized graph and refuse calls it was not captured for.

They return their input, cost a fraction of a microsecond, and vanish under ``torch.export`` and
``torch.onnx``, where shapes and Python values are known while tracing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.fx.node import has_side_effect

from bnfuse.errors import AssumptionError

if TYPE_CHECKING:
    from torch import Tensor


def assume_rank(value: Tensor, rank: int, site: str) -> Tensor:
    """Return ``value`` if it has ``rank`` dimensions.

    Raises:
        AssumptionError: It has another rank, so that the batch norm folded at ``site`` would have
            normalized another axis than the one it was folded on.

    >>> assume_rank(torch.zeros(2, 3), 2, "bn").shape
    torch.Size([2, 3])
    """
    if value.ndim != rank:
        raise AssumptionError(
            f"the batch norm {site!r} was folded for values with {rank} dimensions and this call "
            f"has {value.ndim}: optimize with skip=({site!r},) to run such calls."
        )
    return value


def assume_default(value: object, default: object, name: str) -> None:
    """Check that an optional argument was left at the default the graph was captured with.

    Raises:
        AssumptionError: Another value was given.

    >>> assume_default(None, None, "mask")
    """
    same = value is default or (
        not isinstance(value, torch.Tensor) and type(value) is type(default) and value == default
    )
    if not same:
        raise AssumptionError(
            f"the graph was captured with {name}={default!r} and this call gives another value: "
            f"call the unfused model where {name!r} is needed."
        )


has_side_effect(assume_rank)
has_side_effect(assume_default)
torch.fx.wrap("assume_rank")
torch.fx.wrap("assume_default")
