"""What a graph proves about the sizes of its values, for every call it accepts.

A size is a number where the graph fixes it, such as the channels that a convolution writes, and
otherwise a name for "the size of this axis of that value", so that two sizes that are the same
unknown number are known to be equal.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

from torch import fx

from bnfuse.ops.calls import Call, read_call
from bnfuse.ops.picks import PICKED_SHAPES
from bnfuse.ops.plain import oddity
from bnfuse.ops.rank_rules import shaped_like
from bnfuse.ops.ranks import Ranks
from bnfuse.ops.regroup import regrouped
from bnfuse.ops.shape_rules import (
    SHAPE_RULES,
    Shape,
    Size,
    Unknown,
    axis_of,
    broadcast_size,
    product_of,
    split_shapes,
    unknown_shape,
)
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfuse.graph.program import Program


_SAME_SHAPE = frozenset(
    {
        Kind.IDENTITY, Kind.DROPOUT, Kind.COPY, Kind.CAST, Kind.NEGATE, Kind.ABSOLUTE,
        Kind.RECTIFIER, Kind.CLAMP, Kind.SOFTMAX, Kind.ACTIVATION, Kind.LAYER_NORM,
        Kind.GROUP_NORM, Kind.RMS_NORM, Kind.CUMULATIVE_SUM, Kind.FLIP, Kind.ROLL,
        Kind.CHANNEL_SHUFFLE,
    }
)  # fmt: skip
_INTEGER_ARITHMETIC = (operator.floordiv, operator.mul, operator.add, operator.sub)


class Shapes:
    """The ranks and sizes of all values of a graph.

    Args:
        program: The program; nodes added to its graph later are not known.
        batched: As in ``Ranks``.
    """

    def __init__(self, program: Program, *, batched: bool = False) -> None:
        self.ranks = Ranks(program, batched=batched)
        self._shapes: dict[fx.Node, Shape] = {}
        self._pieces: dict[fx.Node, tuple[Shape, ...]] = {}
        self._sizes: dict[fx.Node, Size | tuple[Size, ...]] = {}
        for node in program.graph.nodes if self.ranks.hold else ():
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
            return None if tensor is None or oddity(tensor) else tuple(tensor.shape)
        call = read_call(program, node)
        if call is not None and not call.hooked:
            found = self._by_call(call)
            if found is not None:
                return found
        else:
            self._read_size(node)
        rank = self.ranks.of(node)
        return None if rank is None else unknown_shape(node, rank)

    def _by_call(self, call: Call) -> Shape | None:
        """Return the shape of a call's result from its input's, or None where no rule tells."""
        of_several = _OF_SEVERAL.get(call.kind)
        if of_several is not None:
            return of_several(self, call)
        given = self.of(call.input)
        if call.is_broadcast:
            return None
        if given is None or call.kind in _SAME_SHAPE:
            return given
        if call.kind is Kind.RESHAPE:
            return self._reshaped(call, given)
        rule = SHAPE_RULES.get(call.kind) or PICKED_SHAPES.get(call.kind)
        return rule(call, given) if rule else None

    def _split(self, call: Call) -> None:
        """Note the shapes of the pieces; what a split returns is a tuple, which has none."""
        given = self.of(call.input)
        pieces = None if given is None else split_shapes(call, given)
        if pieces is not None:
            self._pieces[call.node] = pieces

    def _item(self, call: Call) -> Shape | None:
        index = call.options["index"]
        pieces = self._pieces.get(call.input)
        if pieces is not None and isinstance(index, int) and -len(pieces) <= index < len(pieces):
            return pieces[index]
        sizes = self._sizes.get(call.input)
        if isinstance(sizes, tuple):
            self._note_size(call.node, sizes, index)
        return None

    def _note_size(self, node: fx.Node, sizes: tuple[Size, ...], index: Any) -> None:
        """Note that a node is one of some sizes, or several in a row."""
        is_known = isinstance(index, slice) and not any(
            isinstance(end, fx.Node) for end in (index.start, index.stop, index.step)
        )
        if is_known or axis_of(index, len(sizes)) is not None:
            self._sizes[node] = sizes[index]

    def _concatenation(self, call: Call) -> Shape | None:
        arms = [self.of(arm) if isinstance(arm, fx.Node) else None for arm in call.operands]
        arms = [arm for arm in arms if arm != (0,)]  # such an arm fits any others
        first = arms[0] if arms else None
        axis = None if first is None else axis_of(call.options["dim"], len(first))
        if first is None or axis is None:
            return None
        sizes = [arm[axis] if arm is not None and len(arm) == len(first) else None for arm in arms]
        numbers = [size for size in sizes if isinstance(size, int)]
        whole = sum(numbers) if len(numbers) == len(sizes) else Unknown(call.node, axis)
        return (*first[:axis], whole, *first[axis + 1 :])

    def _stack(self, call: Call) -> Shape | None:
        shapes = [self.of(arm) if isinstance(arm, fx.Node) else None for arm in call.operands]
        arms = [shape for shape in shapes if shape is not None]
        axis = axis_of(call.options["dim"], len(arms[0]) + 1) if arms else None
        if axis is None or len({len(arm) for arm in arms}) > 1:
            return None
        # All arms have one shape: what is a number in any of them is the size.
        sizes = [next((s for s in n if isinstance(s, int)), n[0]) for n in zip(*arms, strict=True)]
        return (*sizes[:axis], len(call.operands), *sizes[axis:])

    def _binary(self, call: Call) -> Shape | None:
        shapes = [
            self.of(operand) if isinstance(operand, fx.Node) else () for operand in call.operands
        ]
        if any(shape is None for shape in shapes):
            return None
        rank = max(len(shape) for shape in shapes if shape is not None)
        padded = [(*[1] * (rank - len(s)), *s) for s in shapes if s is not None]
        return tuple(
            broadcast_size(sizes, Unknown(call.node, axis))
            for axis, sizes in enumerate(zip(*padded, strict=True))
        )

    def _read_size(self, node: fx.Node) -> None:
        """Take in ``value.shape``, ``value.size(1)`` and arithmetic with what they are."""
        if node.target in _INTEGER_ARITHMETIC:
            numbers = self.resolved(node.args)
            if numbers is not None and all(isinstance(n, int) for n in numbers):
                is_undefined = node.target is operator.floordiv and numbers[1] == 0
                self._sizes.update({} if is_undefined else {node: node.target(*numbers)})
            return
        if not node.args or not isinstance(node.args[0], fx.Node):
            return
        shape = self.of(node.args[0])
        if shape is None:
            return
        is_size = node.op == "call_method" and node.target == "size"
        if (node.target is getattr and node.args[1] == "shape") or (
            is_size and len(node.args) == 1 and not node.kwargs
        ):
            self._sizes[node] = shape
        elif is_size or str(node.target) == "aten.sym_size.int":
            self._note_size(node, shape, (*node.args[1:], node.kwargs.get("dim"))[0])

    def _reshaped(self, call: Call, given: Shape) -> Shape | None:
        target = reshape_target(self, call, given)
        return (
            target
            if target is None
            else tuple(
                Unknown(call.node, axis) if size == -1 else size for axis, size in enumerate(target)
            )
        )


_OF_SEVERAL: dict[Kind, Callable[[Shapes, Call], Shape | None]] = {
    Kind.ITEM: Shapes._item,
    Kind.CONCATENATION: Shapes._concatenation,
    Kind.STACK: Shapes._stack,
    Kind.SPLIT: Shapes._split,
    **{kind: Shapes._binary for kind in Kind if kind.is_broadcast},
}
"""Operations on several values, or with several results."""


def reshape_target(shapes: Shapes, call: Call, given: Shape) -> Shape | None:
    """Return the shape a call asks for, -1 worked out where it can be, else left."""
    options, rank = call.options, len(given)
    if (other := shaped_like(call)) is not None:
        return shapes.of(other)
    if "new_dim" in options:
        axis = axis_of(options["new_dim"], rank + 1)
        return None if axis is None else (*given[:axis], 1, *given[axis:])
    if "old_dim" in options:
        axis = axis_of(options["old_dim"], rank)
        return None if axis is None or given[axis] != 1 else (*given[:axis], *given[axis + 1 :])
    if "split_dim" in options:
        axis, parts = axis_of(options["split_dim"], rank), options["sizes"]
        sizes = shapes.resolved(parts) if isinstance(parts, list | tuple) else None
        if axis is None or sizes is None or not isinstance(given[axis], int):
            return None
        return regrouped(given, (*given[:axis], *sizes, *given[axis + 1 :]))
    if "start_dim" in options:
        start, end = (axis_of(options[name], rank) for name in ("start_dim", "end_dim"))
        if start is None or end is None:
            return None
        sizes = given[start : end + 1]
        whole = product_of(sizes)
        return (*given[:start], -1 if whole is None else whole, *given[end + 1 :])
    wanted = options.get("shape")
    target = shapes.resolved(wanted) if isinstance(wanted, list | tuple) else None
    return None if target is None else regrouped(given, target)
