"""What a graph proves about the number of dimensions of its values, for every call it accepts.

Ranks are related before they are known: a convolution keeps the rank of its input, a ``flatten``
lowers it by a fixed number. All such relations are put into one union-find structure whose links
carry the difference. Then one stated rank, by a layer that accepts no other, by ``flatten(1)``, by
an assertion of the model, tells all that are related to it, before it and after it alike.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx, nn

from bnfuse.graph.hooks import is_hooked
from bnfuse.graph.readers import reshapes_in_place
from bnfuse.kernels import FusedLayer
from bnfuse.ops.calls import Call, read_call
from bnfuse.ops.plain import oddity
from bnfuse.ops.rank_rules import CHANGES, asserted, axes_added, count_of, shaped_like
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from bnfuse.graph.program import Program

# Layers that raise for any other rank of input.
_FIXED_RANK: dict[type[nn.Module], int] = {nn.BatchNorm2d: 4, nn.BatchNorm3d: 5}


class Ranks:
    """The ranks of all values of a graph, as far as the graph proves them.

    Args:
        program: The program; nodes added to its graph later are not known.
        batched: Whether to take it that convolutions are given batches. What follows is not proven,
            and whoever relies on it has to put a guard.

    Attributes:
        hold: Whether a value keeps its rank; if one is reshaped in place, nothing is proven.
        are_batched: Whether to take convolutions to be given batches would tell nothing more.
    """

    def __init__(self, program: Program, *, batched: bool = False) -> None:
        self._parent: dict[fx.Node, tuple[fx.Node, int]] = {}
        self._known: dict[fx.Node, int] = {}
        self._empty: set[fx.Node] = set()
        self._pieces: dict[fx.Node, tuple[fx.Node, int]] = {}
        self.hold = not any(map(reshapes_in_place, program.graph.nodes))
        self.are_batched = batched or not self.hold
        if not self.hold:
            return
        calls = [(node, read_call(program, node)) for node in program.graph.nodes]
        for node, call in calls:
            self._state(program, node)
            if call is not None and not call.hooked:
                self._relate(call)
        given = [(n, r) for n, call in calls if (r := _batch_rank(program, n, call)) is not None]
        self.are_batched = batched or all(self.of(node) == rank for node, rank in given)
        for node, rank in given if batched else ():
            self._fix(node, rank)
        for _, call in calls:  # sums of values whose ranks are known by now
            if call is not None and call.kind.is_broadcast:
                self._relate_binary(call)

    def of(self, node: fx.Node) -> int | None:
        """Return the rank of a value, or None where the graph does not fix it."""
        root, difference = self.counted_from(node)
        known = self._known.get(root)
        return None if known is None else known + difference

    def implied(self, node: fx.Node, other: fx.Node, rank: int) -> int | None:
        """Return the rank of a value where another's is ``rank``, or None if that tells nothing."""
        root, difference = self.counted_from(node)
        others, above = self.counted_from(other)
        return rank - above + difference if root is others else None

    def counted_from(self, node: fx.Node) -> tuple[fx.Node, int]:
        """Return what a rank is counted from, and the difference to that."""
        path, difference = [], 0
        while node in self._parent:
            parent, step = self._parent[node]
            path.append((node, difference))
            difference += step
            node = parent
        for visited, before in path:  # shortens the path for the next time
            self._parent[visited] = (node, difference - before)
        return node, difference

    def _link(self, node: fx.Node, other: fx.Node, difference: int) -> None:
        """Note that ``rank(node) = rank(other) + difference``."""
        mine, above_mine = self.counted_from(node)
        theirs, above_theirs = self.counted_from(other)
        if mine is theirs:
            return
        step = above_theirs + difference - above_mine
        self._parent[mine] = (theirs, step)
        if mine in self._known:
            self._known.setdefault(theirs, self._known.pop(mine) - step)

    def _fix(self, node: fx.Node, rank: int) -> None:
        """Note the rank of a value."""
        root, difference = self.counted_from(node)
        self._known.setdefault(root, rank - difference)

    def _state(self, program: Program, node: fx.Node) -> None:
        """Take in what a node states by itself."""
        recorded = getattr(node.meta.get("val"), "ndim", None)
        if isinstance(recorded, int):
            self._fix(node, recorded)
        if node.op == "get_attr":
            tensor = program.tensor(str(node.target))
            if tensor is not None and not oddity(tensor):
                self._fix(node, tensor.ndim)
                if tensor.shape == (0,):  # fits values of any rank in a concatenation
                    self._empty.add(node)
        elif node.op == "call_module" and node.args and isinstance(node.args[0], fx.Node):
            self._state_layer(program.module(str(node.target)), node, node.args[0])
        for value, rank in asserted(node):
            self._fix(value, rank)

    def _state_layer(self, module: nn.Module, node: fx.Node, value: fx.Node) -> None:
        """Take in what the call of a layer states."""
        fixed = None if is_hooked(module) else _FIXED_RANK.get(type(module))
        if fixed is not None:
            self._fix(value, fixed)
        if isinstance(module, FusedLayer) and len(node.args) == 1:  # else it adds, or multiplies by
            self._link(node, value, 0)

    def _relate(self, call: Call) -> None:
        """Take in how the rank of a call's result follows from its input's."""
        if call.is_broadcast:
            return
        rule = _RULES.get(call.kind)
        if rule is not None:
            rule(self, call)
            return
        self._link(call.node, call.input, 0)
        if call.kind is Kind.PERMUTATION and (count := count_of(call.options["dims"])) is not None:
            self._fix(call.node, count)

    def _relate_arms(self, call: Call) -> None:
        """An input may be an empty tensor of one axis, which fits others of any rank."""
        for operand in call.operands:
            is_value = isinstance(operand, fx.Node) and operand.op != "placeholder"
            if is_value and operand not in self._empty:
                self._link(call.node, operand, 0)

    def _relate_stacked(self, call: Call) -> None:
        for operand in call.operands:
            if isinstance(operand, fx.Node):
                self._link(call.node, operand, 1)

    def _relate_repeated(self, call: Call) -> None:
        """``expand`` and ``repeat`` name every axis of the result."""
        given = call.options["size" if call.kind is Kind.EXPAND else "repeats"]
        if (count := count_of(given)) is not None:
            self._fix(call.node, count)

    def _relate_repetition(self, call: Call) -> None:
        if call.options["dim"] is None:  # flattened
            self._fix(call.node, 1)
        elif type(call.options["dim"]) is int:
            self._link(call.node, call.input, 0)

    def _relate_changed(self, call: Call) -> None:
        if (change := CHANGES[call.kind](call, self.of)) is not None:
            self._link(call.node, call.input, change)

    def _relate_pieces(self, call: Call) -> None:
        """A split returns a tuple; what is taken out of it is related by ``_relate_item``."""
        change = -1 if "unbind" in str(call.node.target) else 0
        self._pieces[call.node] = (call.input, change)

    def _relate_binary(self, call: Call) -> None:
        values = [operand for operand in call.operands if isinstance(operand, fx.Node)]
        if len({self.counted_from(value) for value in values}) == 1:
            self._link(call.node, values[0], 0)
            return
        ranks = [self.of(value) for value in values]
        if None not in ranks:
            self._fix(call.node, max(rank for rank in ranks if rank is not None))

    def _relate_item(self, call: Call) -> None:
        """``value[:, 1:]``, or a piece of what a split returned."""
        index, value = call.options["index"], call.input
        if value in self._pieces:
            if type(index) is int:
                self._link(call.node, *self._pieces[value])
        elif isinstance(index, tuple):
            added = sum(part is None for part in index)
            taken = sum(isinstance(part, int) for part in index)
            if all(part is None or type(part) in (int, slice) for part in index):
                self._link(call.node, value, added - taken)

    def _relate_reshape(self, call: Call) -> None:
        given = call.options
        if (other := shaped_like(call)) is not None:
            self._link(call.node, other, 0)
        elif "shape" in given:
            if (count := count_of(given["shape"])) is not None:
                self._fix(call.node, count)
        elif (added := axes_added(call)) is not None:
            self._link(call.node, call.input, added)
        elif "start_dim" in given:
            self._relate_flatten(call)

    def _relate_flatten(self, call: Call) -> None:
        start, end = call.options["start_dim"], call.options["end_dim"]
        if type(start) is not int or type(end) is not int:
            return
        if start >= 0 and end == -1:
            self._fix(call.node, start + 1)
        elif 0 <= start <= end:
            self._link(call.node, call.input, start - end)


def _batch_rank(program: Program, node: fx.Node, call: Call | None) -> int | None:
    """Return the rank of a convolution's result where it is given a batch; None for all else."""
    module = program.module(str(node.target)) if node.op == "call_module" else None
    if isinstance(module, FusedLayer) and not isinstance(module, nn.Linear):
        return module.weight.ndim
    kinds = (Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION)
    if call is None or call.hooked or call.kind not in kinds:
        return None
    weight = call.tensor("weight")
    return None if weight is None else weight.ndim


_RULES = {
    **{kind: Ranks._relate_binary for kind in Kind if kind.is_broadcast},
    **dict.fromkeys(CHANGES, Ranks._relate_changed),
    Kind.CONCATENATION: Ranks._relate_arms,
    Kind.STACK: Ranks._relate_stacked,
    **dict.fromkeys((Kind.EXPAND, Kind.REPEAT), Ranks._relate_repeated),
    Kind.REPETITION: Ranks._relate_repetition,
    Kind.SPLIT: Ranks._relate_pieces,
    Kind.ITEM: Ranks._relate_item,
    Kind.RESHAPE: Ranks._relate_reshape,
}
"""How kinds of operations change the rank; all others keep it."""
