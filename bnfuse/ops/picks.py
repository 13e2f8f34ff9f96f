"""Which elements an operation picks along an axis, and how many there are then."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from bnfuse.ops.shape_rules import Shape, Size, Unknown, axis_of, unknown_shape
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.ops.calls import Call


def slice_places(call: Call, size: int) -> Tensor | None:
    """Return the places that a slice picks of so many, or None where the graph computes them."""
    if "index" in call.constants:
        index = call.tensor("index")
        return None if index is None or index.is_meta else index.reshape(-1).cpu()
    start, end, step, length = (call.options[n] for n in ("start", "end", "step", "length"))
    if not all(part is None or type(part) is int for part in (start, end, step, length)):
        return None
    if length is not None:  # narrow
        first = int(start) % size if size else 0
        return torch.arange(first, first + length)
    return torch.arange(size)[start:end:step]


def pair_of(value: object) -> tuple[int, int] | None:
    """Return an option for height and width, or None where it is no number."""
    given = tuple(value) if isinstance(value, list | tuple) else (value, value)
    return given if len(given) == 2 and all(type(part) is int for part in given) else None


def _sliced(call: Call, given: Shape) -> Shape | None:
    axis = axis_of(call.options["dim"], len(given))
    size = None if axis is None else given[axis]
    places = slice_places(call, size) if isinstance(size, int) else None
    if axis is None:
        return None
    new: Size = Unknown(call.node, axis) if places is None else len(places)
    return (*given[:axis], new, *given[axis + 1 :])


def _with_repetitions(call: Call, given: Shape) -> Shape | None:
    axis = axis_of(call.options["dim"], len(given))
    return None if axis is None else _times(call, given, {axis: call.options["repeats"]})


def _repeated(call: Call, given: Shape) -> Shape | None:
    counts = call.options["repeats"]
    if not isinstance(counts, list | tuple) or len(counts) < len(given):
        return None
    whole = (*[1] * (len(counts) - len(given)), *given)
    return _times(call, whole, dict(enumerate(counts)))


def _times(call: Call, given: Shape, counts: dict[int, object]) -> Shape:
    """Return sizes multiplied by the counts of their axes."""
    sizes: list[Size] = list(given)
    for axis, count in counts.items():
        size = sizes[axis]
        is_known = isinstance(size, int) and type(count) is int
        if count != 1:
            sizes[axis] = int(str(size)) * int(str(count)) if is_known else Unknown(call.node, axis)
    return tuple(sizes)


def _expanded(call: Call, given: Shape) -> Shape | None:
    wanted = call.options["size"]
    if not isinstance(wanted, list | tuple) or len(wanted) < len(given):
        return None
    whole: Shape = (*[1] * (len(wanted) - len(given)), *given)
    pairs = enumerate(zip(wanted, whole, strict=True))
    return tuple(
        (old if new == -1 else new) if type(new) is int else Unknown(call.node, axis)
        for axis, (new, old) in pairs
    )


def _spread(call: Call, given: Shape) -> Shape | None:
    """``pixel_shuffle`` divides the channels by ``r²``, ``pixel_unshuffle`` multiplies them."""
    is_up = call.kind is Kind.PIXEL_SHUFFLE
    factor = call.options["upscale_factor" if is_up else "downscale_factor"]
    if len(given) < 3 or type(factor) is not int or factor < 1:
        return None
    axis, channels = len(given) - 3, given[-3]
    new: Size = Unknown(call.node, axis)
    if isinstance(channels, int):
        new = channels // factor**2 if is_up else channels * factor**2
    return (*given[:-3], new, *(Unknown(call.node, last) for last in (axis + 1, axis + 2)))


def _unfolded(call: Call, given: Shape) -> Shape | None:
    kernel = pair_of(call.options["kernel_size"])
    if kernel is None or len(given) not in (3, 4):
        return None
    channels, axis = given[-3], len(given) - 3
    sizes = unknown_shape(call.node, axis + 2)
    known = channels * prod(kernel) if isinstance(channels, int) else sizes[axis]
    return (*given[:axis], known, sizes[-1])


PICKED_SHAPES = {
    Kind.SLICE: _sliced,
    Kind.REPETITION: _with_repetitions,
    Kind.REPEAT: _repeated,
    Kind.EXPAND: _expanded,
    Kind.PIXEL_SHUFFLE: _spread,
    Kind.PIXEL_UNSHUFFLE: _spread,
    Kind.UNFOLD: _unfolded,
}
"""The shape of a result from that of the input, by kind of operation."""
