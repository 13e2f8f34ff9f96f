"""What a graph proves about the sizes of its values, for every call it accepts.

A size is a number where the graph fixes it, such as the channels that a convolution writes, and
otherwise a name for "the size of this axis of that value", so that two sizes that are the same
unknown number are known to be equal.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import fx

from bnfuse.ops.calls import Call, read_call
from bnfuse.ops.linear import output_channels
from bnfuse.ops.ranks import Ranks
from bnfuse.ops.regroup import regrouped
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfuse.graph.program import Program


@dataclass(frozen=True, slots=True)
class Unknown:
    """The size of one axis of the value of a node."""

    node: fx.Node
    axis: int


Size = int | Unknown
Shape = tuple[Size, ...]

_SAME_SHAPE = frozenset(
    {Kind.IDENTITY, Kind.DROPOUT, Kind.COPY, Kind.NEGATE, Kind.RECTIFIER, Kind.ACTIVATION}
)
_BINARY = (Kind.ADD, Kind.SUBTRACT, Kind.MULTIPLY, Kind.DIVIDE)


class Shapes:
    """The ranks and sizes of all values of a graph.

    Args:
        program: The program; nodes added to its graph later are not known.
    """

    def __init__(self, program: Program) -> None:
        self.ranks = Ranks(program)
        self._shapes: dict[fx.Node, Shape] = {}
        self._pieces: dict[fx.Node, tuple[Shape, ...]] = {}
        self._sizes: dict[fx.Node, Size | tuple[Size, ...]] = {}
        for node in program.graph.nodes:
            shape = self._shape(program, node)
            if shape is not None:
                self._shapes[node] = shape

    def of(self, node: fx.Node) -> Shape | None:
        """Return the sizes of a value's axes, or None where not even their number is known."""
        return self._shapes.get(node)

    def rank(self, node: fx.Node) -> int | None:
        """Return the number of axes of a value, or None where the graph does not fix it."""
        return self.ranks.of(node)

    def pieces(self, node: fx.Node) -> tuple[Shape, ...] | None:
        """Return the shapes of the pieces that a split returns, or None where they are unknown."""
        return self._pieces.get(node)

    def resolved(self, values: Sequence[Any]) -> tuple[Size, ...] | None:
        """Return sizes written as numbers, or read from values by the graph; -1 stays as it is."""
        found = [self._sizes.get(v) if isinstance(v, fx.Node) else v for v in values]
        sizes = tuple(size for size in found if isinstance(size, int | Unknown))
        return sizes if len(sizes) == len(found) else None

    def _shape(self, program: Program, node: fx.Node) -> Shape | None:
        if node.op == "get_attr":
            tensor = program.tensor(str(node.target))
            return None if tensor is None else tuple(tensor.shape)
        call = read_call(program, node)
        if call is not None and not call.hooked:
            found = self._by_call(call)
            if found is not None:
                return found
        else:
            self._read_size(node)
        rank = self.ranks.of(node)
        return None if rank is None else _unknown(node, rank)

    def _by_call(self, call: Call) -> Shape | None:
        """Return the shape of a call's result from its input's, or None where no rule tells."""
        if call.kind is Kind.ITEM:
            return self._item(call)
        if call.kind is Kind.CONCATENATION:
            return self._concatenation(call)
        if call.kind in _BINARY:
            return self._binary(call)
        given = self.of(call.input)
        if given is None:
            return None
        if call.kind in _SAME_SHAPE:
            return given
        if call.kind is Kind.SPLIT:
            pieces = split_shapes(call, given)
            if pieces is not None:
                self._pieces[call.node] = pieces
            return None
        rule = _RULES.get(call.kind)
        return rule(self, call, given) if rule else None

    def _item(self, call: Call) -> Shape | None:
        index = call.options["index"]
        pieces = self._pieces.get(call.input)
        if pieces is not None and isinstance(index, int) and -len(pieces) <= index < len(pieces):
            return pieces[index]
        sizes = self._sizes.get(call.input)
        if isinstance(sizes, tuple) and isinstance(index, int | slice):
            self._sizes[call.node] = sizes[index]
        return None

    def _concatenation(self, call: Call) -> Shape | None:
        arms = [self.of(arm) if isinstance(arm, fx.Node) else None for arm in call.operands]
        first = arms[0]
        if first is None or not isinstance(call.options["dim"], int):
            return None
        axis = call.options["dim"] % len(first)
        sizes = [arm[axis] if arm is not None and len(arm) == len(first) else None for arm in arms]
        numbers = [size for size in sizes if isinstance(size, int)]
        whole = sum(numbers) if len(numbers) == len(sizes) else Unknown(call.node, axis)
        return (*first[:axis], whole, *first[axis + 1 :])

    def _binary(self, call: Call) -> Shape | None:
        shapes = [
            self.of(operand) if isinstance(operand, fx.Node) else () for operand in call.operands
        ]
        if any(shape is None for shape in shapes):
            return None
        rank = max(len(shape) for shape in shapes if shape is not None)
        padded = [(*[1] * (rank - len(s)), *s) for s in shapes if s is not None]
        return tuple(
            _broadcast(sizes, Unknown(call.node, axis))
            for axis, sizes in enumerate(zip(*padded, strict=True))
        )

    def _read_size(self, node: fx.Node) -> None:
        """Take in ``value.shape`` and ``value.size(1)``."""
        if not node.args or not isinstance(node.args[0], fx.Node):
            return
        shape = self.of(node.args[0])
        if shape is None:
            return
        is_size = node.op == "call_method" and node.target == "size"
        if (node.target is getattr and node.args[1] == "shape") or (
            is_size and len(node.args) == 1
        ):
            self._sizes[node] = shape
        elif (is_size and isinstance(node.args[1], int)) or (
            str(node.target) == "aten.sym_size.int" and isinstance(node.args[1], int)
        ):
            self._sizes[node] = shape[node.args[1]]

    def _reshaped(self, call: Call, given: Shape) -> Shape | None:
        target = reshape_target(self, call, given)
        return (
            target
            if target is None
            else tuple(
                Unknown(call.node, axis) if size == -1 else size for axis, size in enumerate(target)
            )
        )


def reshape_target(shapes: Shapes, call: Call, given: Shape) -> Shape | None:
    """Return the shape a call asks for, -1 worked out where it can be, else left."""
    options, rank = call.options, len(given)
    if "new_dim" in options:
        axis = options["new_dim"] % (rank + 1)
        return (*given[:axis], 1, *given[axis:])
    if "old_dim" in options:
        axis = options["old_dim"]
        if not isinstance(axis, int) or given[axis % rank] != 1:
            return None
        return (*given[: axis % rank], *given[axis % rank + 1 :])
    if "like" in options:
        return shapes.of(options["like"]) if isinstance(options["like"], fx.Node) else None
    if "start_dim" in options:
        start, end = options["start_dim"] % rank, options["end_dim"] % rank
        sizes = given[start : end + 1]
        whole = _product(sizes)
        return (*given[:start], -1 if whole is None else whole, *given[end + 1 :])
    wanted = options["shape"]
    target = shapes.resolved(wanted) if isinstance(wanted, list | tuple) else None
    return None if target is None else regrouped(given, target)


def split_shapes(call: Call, given: Shape) -> tuple[Shape, ...] | None:
    """Return the shapes of the pieces of ``chunk``, ``split`` and ``unbind``.

    ``chunk`` of 6 into 4 gives 3 pieces of 2: each has the size rounded up.
    """
    axis = call.options["dim"] % len(given)
    size = given[axis]
    if not isinstance(size, int) or size == 0:
        return None
    if call.options["chunks"] is None and call.options["split_size"] is None:
        return tuple((*given[:axis], *given[axis + 1 :]) for _ in range(size))
    wanted: Any = call.options["split_size"]
    if isinstance(call.options["chunks"], int):
        wanted = -(-size // call.options["chunks"])
    if isinstance(wanted, int):
        wanted = [min(wanted, size - start) for start in range(0, size, wanted)]
    if not isinstance(wanted, list | tuple) or not all(isinstance(w, int) for w in wanted):
        return None
    return tuple((*given[:axis], piece, *given[axis + 1 :]) for piece in wanted)


def spatial_axes(call: Call) -> int:
    """Return over how many last axes a layer works, from the digit in its name."""
    found = re.search(r"(\d)d", call.spelling)
    return int(found[1]) if found else 0


def _unknown(node: fx.Node, rank: int) -> Shape:
    return tuple(Unknown(node, axis) for axis in range(rank))


def _product(sizes: Sequence[Size]) -> Size | None:
    """Return the product of sizes where at most one is unknown and the others are 1."""
    unknown = [size for size in sizes if not isinstance(size, int)]
    whole = 1
    for size in sizes:
        whole *= size if isinstance(size, int) else 1
    if not unknown:
        return whole
    return unknown[0] if len(unknown) == 1 and whole == 1 else None


def _broadcast(sizes: tuple[Size, ...], otherwise: Size) -> Size:
    """Return the size of an axis that several values are broadcast along."""
    distinct = {size for size in sizes if size != 1}
    if not distinct:
        return 1
    numbers = [size for size in distinct if isinstance(size, int)]
    if len(distinct) == 1 or numbers:
        return numbers[0] if numbers else distinct.pop()
    return otherwise


def _convolution(_: Shapes, call: Call, given: Shape) -> Shape | None:
    weight = call.tensor("weight")
    if weight is None or len(given) != weight.ndim:
        return None
    spatial = [Unknown(call.node, axis) for axis in range(2, len(given))]
    return (given[0], output_channels(call), *spatial)


def _linear(_: Shapes, call: Call, given: Shape) -> Shape | None:
    weight = call.tensor("weight")
    return None if weight is None else (*given[:-1], weight.shape[0])


def _batch_norm(_: Shapes, call: Call, given: Shape) -> Shape | None:
    mean = call.tensor("running_mean")
    if mean is None or len(given) < 2:
        return given
    return (given[0], mean.numel(), *given[2:])


def _pooled(_: Shapes, call: Call, given: Shape) -> Shape | None:
    count = spatial_axes(call)
    if not count:
        return None
    wanted = call.options.get("output_size")
    sizes: list[Any] = list(wanted) if isinstance(wanted, list | tuple) else [wanted] * count
    kept = given[: len(given) - count]
    last = range(len(kept), len(given))
    return (
        *kept,
        *(
            s if isinstance(s, int) else Unknown(call.node, a)
            for s, a in zip(sizes, last, strict=True)
        ),
    )


def _resized(_: Shapes, call: Call, given: Shape) -> Shape | None:
    return (*given[:2], *(Unknown(call.node, axis) for axis in range(2, len(given))))


def _mean(_: Shapes, call: Call, given: Shape) -> Shape | None:
    dims = call.options["dim"]
    dims = (dims,) if isinstance(dims, int) else dims
    if not isinstance(dims, list | tuple) or not dims:
        return None
    gone = {dim % len(given) for dim in dims}
    if call.options["keepdim"]:
        return tuple(1 if axis in gone else size for axis, size in enumerate(given))
    return tuple(size for axis, size in enumerate(given) if axis not in gone)


def permutation_of(call: Call, rank: int) -> tuple[int, ...] | None:
    """Return which axis of the input each axis of a permutation's result is."""
    dims, one, other = (call.options[name] for name in ("dims", "dim0", "dim1"))
    if isinstance(dims, list | tuple) and len(dims) == rank:
        return tuple(dim % rank for dim in dims)
    if isinstance(one, int) and isinstance(other, int) and -rank <= min(one, other):
        if max(one, other) >= rank:
            return None
        order = list(range(rank))
        order[one], order[other] = order[other], order[one]
        return tuple(order)
    return None


def _permuted(_: Shapes, call: Call, given: Shape) -> Shape | None:
    order = permutation_of(call, len(given))
    return None if order is None else tuple(given[axis] for axis in order)


_RULES = {
    Kind.CONVOLUTION: _convolution,
    Kind.TRANSPOSED_CONVOLUTION: _convolution,
    Kind.LINEAR: _linear,
    Kind.BATCH_NORM: _batch_norm,
    Kind.AVERAGE_POOL: _pooled,
    Kind.ADAPTIVE_AVERAGE: _pooled,
    Kind.MAX_POOL: _pooled,
    Kind.RESIZE: _resized,
    Kind.MEAN: _mean,
    Kind.PERMUTATION: _permuted,
    Kind.RESHAPE: Shapes._reshaped,
}
