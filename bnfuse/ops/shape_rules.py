"""How the shape of a call's result follows from that of its input, a rule for each operation."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import fx

from bnfuse.ops.linear import output_channels
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfuse.ops.calls import Call


@dataclass(frozen=True, slots=True)
class Unknown:
    """The size of one axis of the value of a node."""

    node: fx.Node
    axis: int


Size = int | Unknown
Shape = tuple[Size, ...]


def unknown_shape(node: fx.Node, rank: int) -> Shape:
    """Return a shape of which the number of axes alone is known."""
    return tuple(Unknown(node, axis) for axis in range(rank))


def axis_of(given: object, rank: int) -> int | None:
    """Return an axis, counted from the front; None where it is computed, or there is no such axis.

    >>> axis_of(-1, 4), axis_of(4, 4)
    (3, None)
    """
    if type(given) is not int or not -rank <= given < rank:
        return None
    return given % rank


def axes_of(dims: object, rank: int) -> tuple[int, ...] | None:
    """Return one axis or several counted from the front, or None where there is not one at least.

    >>> axes_of([-1, 0], 3)
    (2, 0)
    """
    given = dims if isinstance(dims, list | tuple) else (dims,)
    found = [axis for dim in given if (axis := axis_of(dim, rank)) is not None]
    return tuple(found) if found and len(found) == len(given) else None


def product_of(sizes: Sequence[Size]) -> Size | None:
    """Return the product of sizes where at most one is unknown and the others are 1."""
    unknown = [size for size in sizes if not isinstance(size, int)]
    whole = 1
    for size in sizes:
        whole *= size if isinstance(size, int) else 1
    if not unknown:
        return whole
    return unknown[0] if len(unknown) == 1 and whole == 1 else None


def broadcast_size(sizes: tuple[Size, ...], otherwise: Size) -> Size:
    """Return the size of an axis that several values are broadcast along."""
    distinct = {size for size in sizes if size != 1}
    if not distinct:
        return 1
    numbers = [size for size in distinct if isinstance(size, int)]
    if len(distinct) == 1 or numbers:
        return numbers[0] if numbers else distinct.pop()
    return otherwise


def split_shapes(call: Call, given: Shape) -> tuple[Shape, ...] | None:
    """Return the shapes of the pieces of ``chunk``, ``split`` and ``unbind``.

    ``chunk`` of 6 into 4 gives 3 pieces of 2: each has the size rounded up.
    """
    axis = axis_of(call.options["dim"], len(given))
    size = None if axis is None else given[axis]
    if axis is None or not isinstance(size, int) or size == 0:
        return None
    if call.options["chunks"] is None and call.options["split_size"] is None:
        return tuple((*given[:axis], *given[axis + 1 :]) for _ in range(size))
    wanted: Any = call.options["split_size"]
    if isinstance(call.options["chunks"], int):
        wanted = -(-size // call.options["chunks"])
    if isinstance(wanted, int) and wanted > 0:
        wanted = [min(wanted, size - start) for start in range(0, size, wanted)]
    if not isinstance(wanted, list | tuple) or not all(isinstance(w, int) for w in wanted):
        return None
    return tuple((*given[:axis], piece, *given[axis + 1 :]) for piece in wanted)


def spatial_axes(call: Call) -> int:
    """Return over how many last axes a layer works, from the digit in its name."""
    found = re.search(r"(\d)d", call.spelling)
    return int(found[1]) if found else 0


def _convolution(call: Call, given: Shape) -> Shape | None:
    weight = call.tensor("weight")
    if weight is None or len(given) != weight.ndim:
        return None
    spatial = [Unknown(call.node, axis) for axis in range(2, len(given))]
    return (given[0], output_channels(call), *spatial)


def _linear(call: Call, given: Shape) -> Shape | None:
    weight = call.tensor("weight")
    return None if weight is None or weight.ndim != 2 else (*given[:-1], weight.shape[0])


def _embedding(call: Call, given: Shape) -> Shape | None:
    weight = call.tensor("weight")
    return None if weight is None or weight.ndim != 2 else (*given, weight.shape[1])


def _half(call: Call, given: Shape) -> Shape | None:
    axis = axis_of(call.options["dim"], len(given))
    if axis is None:
        return None
    size = given[axis]
    half: Size = size // 2 if isinstance(size, int) else Unknown(call.node, axis)
    return (*given[:axis], half, *given[axis + 1 :])


def _batch_norm(call: Call, given: Shape) -> Shape | None:
    mean = call.tensor("running_mean")
    if mean is None or len(given) < 2:
        return given
    return (given[0], mean.numel(), *given[2:])


def _pooled(call: Call, given: Shape) -> Shape | None:
    count = spatial_axes(call)
    if not count:
        return None
    wanted = call.options.get("output_size")
    sizes: list[Any] = list(wanted) if isinstance(wanted, list | tuple) else [wanted] * count
    if len(sizes) != count or len(given) < count:
        return None
    kept = given[: len(given) - count]
    last = range(len(kept), len(given))
    return (
        *kept,
        *(
            s if isinstance(s, int) else Unknown(call.node, a)
            for s, a in zip(sizes, last, strict=True)
        ),
    )


def _resized(call: Call, given: Shape) -> Shape | None:
    return (*given[:2], *(Unknown(call.node, axis) for axis in range(2, len(given))))


def _mean(call: Call, given: Shape) -> Shape | None:
    gone = axes_of(call.options["dim"], len(given))
    if gone is None:
        return None
    if call.options["keepdim"]:
        return tuple(1 if axis in gone else size for axis, size in enumerate(given))
    return tuple(size for axis, size in enumerate(given) if axis not in gone)


def permutation_of(call: Call, rank: int) -> tuple[int, ...] | None:
    """Return which axis of the input each axis of a permutation's result is."""
    dims, one, other = (call.options[name] for name in ("dims", "dim0", "dim1"))
    if isinstance(dims, list | tuple) and len(dims) == rank:
        return axes_of(dims, rank)
    swapped = axes_of((one, other), rank)
    if swapped is None:
        return None
    order = list(range(rank))
    order[swapped[0]], order[swapped[1]] = swapped[1], swapped[0]
    return tuple(order)


def _permuted(call: Call, given: Shape) -> Shape | None:
    order = permutation_of(call, len(given))
    return None if order is None else tuple(given[axis] for axis in order)


SHAPE_RULES = {
    Kind.CONVOLUTION: _convolution,
    Kind.TRANSPOSED_CONVOLUTION: _convolution,
    Kind.LINEAR: _linear,
    Kind.BATCH_NORM: _batch_norm,
    Kind.EMBEDDING: _embedding,
    Kind.GATE: _half,
    Kind.AVERAGE_POOL: _pooled,
    Kind.ADAPTIVE_AVERAGE: _pooled,
    Kind.MAX_POOL: _pooled,
    Kind.RESIZE: _resized,
    Kind.MEAN: _mean,
    Kind.SUM: _mean,
    Kind.PERMUTATION: _permuted,
}
"""The shape of a result from that of the input, by kind of operation."""
