"""The sizes an engine is built for: from the smallest to the largest of each open one."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import nn

    from bnfuse.validation.inputs import Arguments

LARGEST_BATCH = 32
"""The largest batch that an engine takes where nothing else is said."""
_UNBOUNDED = 2**31 - 1


@dataclass(frozen=True, slots=True)
class Range:
    """The sizes of one axis.

    Attributes:
        smallest: The smallest.
        best: The one to be fastest at, the example's.
        largest: The largest.
    """

    smallest: int
    best: int
    largest: int


Ranges = tuple[dict[int, Range], ...]
"""For each tensor of a call, in order, its open axes with their sizes."""


def ranges_of(
    model: nn.Module, call: Arguments, dynamic_shapes: Any, largest_batch: int = LARGEST_BATCH
) -> Ranges:
    """Return the sizes to build for.

    Args:
        model: The model, for the names of its arguments.
        call: The arguments of an example call.
        dynamic_shapes: As ``torch.export.export`` takes them; None for the first axis of every
            tensor, from 1 to ``largest_batch`` or the example's, whichever is larger.
        largest_batch: The largest size of a first axis that is open without a bound.

    Raises:
        RequestError: An axis other than the first is open without bounds, or the example does not
            lie within them, or the shapes do not fit the arguments.
    """
    args, kwargs = call
    if dynamic_shapes is None:
        tensors = [tensor for _, tensor, _ in _pairs("", (args, kwargs), None)]
        return tuple(
            {0: _batch(tensor.shape[0], 1, largest_batch)} if tensor.ndim else {}
            for tensor in tensors
        )
    names = list(inspect.signature(model.forward).parameters)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    if not isinstance(dynamic_shapes, dict):
        dynamic_shapes = dict(zip(given, dynamic_shapes, strict=False))
    found: list[dict[int, Range]] = []
    for name, value in given.items():
        for where, tensor, axes in _pairs(name, value, dynamic_shapes.get(name)):
            found.append(_of_tensor(where, tensor, axes, largest_batch))
    return tuple(found)


def _pairs(where: str, value: Any, shapes: Any) -> Iterator[tuple[str, torch.Tensor, Any]]:
    """Yield each tensor in a nested value with its name and its part of ``dynamic_shapes``."""
    if isinstance(value, torch.Tensor):
        yield where, value, shapes
    elif isinstance(value, dict):
        for key, inner in value.items():
            part = shapes.get(key) if isinstance(shapes, dict) else None
            yield from _pairs(f"{where}[{key!r}]", inner, part)
    elif isinstance(value, list | tuple):
        parts = shapes if isinstance(shapes, list | tuple) else [None] * len(value)
        for index, (inner, part) in enumerate(zip(value, parts, strict=True)):
            yield from _pairs(f"{where}[{index}]", inner, part)


def _of_tensor(where: str, tensor: torch.Tensor, axes: Any, largest_batch: int) -> dict[int, Range]:
    """Return the ranges of one tensor's open axes."""
    if not isinstance(axes, dict):
        axes = dict(enumerate(axes or ()))
    found = {}
    for axis, dim in axes.items():
        if dim is None or isinstance(dim, int):
            continue
        if not 0 <= axis < tensor.ndim:
            raise RequestError(
                f"dynamic_shapes opens axis {axis} of {where}, which has {tensor.ndim} axes: "
                "name axes that it has."
            )
        size = tensor.shape[axis]
        bound = None if axis else largest_batch
        found[axis] = _of_axis(f"axis {axis} of {where}", size, dim, bound)
    return found


def _of_axis(where: str, size: int, dim: Any, largest_batch: int | None) -> Range:
    """Return the range of one open axis, whose size is a ``Dim``, a hint, or a name."""
    smallest, largest = getattr(dim, "min", None), getattr(dim, "max", None)
    if largest is None or largest >= _UNBOUNDED:  # without one it is no int, but compares as one
        if largest_batch is None:
            raise RequestError(
                f"dynamic_shapes leaves {where} open without a bound, and an engine is built for "
                "a range of sizes: pass torch.export.Dim(name, min=..., max=...)."
            )
        return _batch(size, int(smallest or 1), largest_batch)
    made = Range(max(1, int(smallest or 1)), size, int(largest))
    if not made.smallest <= size <= made.largest:
        raise RequestError(
            f"{where} is {size} in the example and {made.smallest} to {made.largest} in "
            "dynamic_shapes: pass an example within the range."
        )
    return made


def _batch(size: int, smallest: int, largest: int) -> Range:
    return Range(min(max(1, smallest), size), size, max(largest, size))
