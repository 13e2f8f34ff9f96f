"""What rounding may do to the values of a region."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.regions.evaluate import Evaluator, nudged
from bnfuse.validation.inner import largest_computed

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor, fx

    from bnfuse.graph import Program
    from bnfuse.regions.region import Region

_NUDGE = 2.0**-50


@dataclass(frozen=True, slots=True)
class Rounding:
    """What rounding may do to the values of a region.

    Attributes:
        nearby: Its outputs for inputs and weights a few ulps off, several times.
        inner: The largest absolute value in it, by which zeros are measured: those that a rectifier
            made are a sum that cancels where its bounds have moved.
    """

    nearby: tuple[tuple[Any, ...], ...] = ()
    inner: float = 0.0


NONE = Rounding()
"""For values whose rounding is not in question."""


def rounding_of(
    program: Program, region: Region, inputs: dict[fx.Node, Tensor], values: dict[fx.Node, Any]
) -> Rounding:
    """Return what rounding may do to a region.

    Args:
        program: The program.
        region: The region.
        inputs: Its inputs.
        values: What each of its operations computes for them.
    """
    return Rounding(_nearby(program, region, inputs), _largest(values.values()))


def _nearby(
    program: Program, region: Region, inputs: dict[fx.Node, Tensor]
) -> tuple[tuple[Any, ...], ...]:
    """Return the outputs of a region for inputs and weights a few ulps off, in opposite ways.

    What a rectifier lets through on one side of zero it does not on the other.
    """
    found = []
    for seed, nudge in product(range(2), (_NUDGE, -_NUDGE)):
        torch.default_generator.manual_seed(seed)
        moved = {  # tensors of their own, since an operation may write them
            node: nudged(tensor, nudge) if tensor.is_floating_point() else tensor.clone()
            for node, tensor in inputs.items()
        }
        values = Evaluator(program, nudge).run(region.nodes, moved)
        found.append(region.outputs_in(values))
    return tuple(found)


def _largest(values: Iterable[Any]) -> float:
    """Return the largest absolute value in tensors, as far as it may be computed."""
    tensors = (v for v in values if isinstance(v, torch.Tensor) and v.is_floating_point())
    return max(map(largest_computed, tensors), default=0.0)
