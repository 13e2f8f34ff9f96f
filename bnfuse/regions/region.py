"""The part of a graph that a rewrite is about: what it reads, and what others read from it."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from torch import fx

from bnfuse.graph.readers import reads_metadata_only

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from bnfuse.graph import Program

_NUMBER_OPERATORS = frozenset(
    {operator.add, operator.sub, operator.mul, operator.floordiv, operator.mod, operator.neg, int}
)
_MOST_SIZES = 64
_MOST_NODES = 4096
"""How many operations may stand in the place of a region."""


@dataclass(frozen=True, slots=True, eq=False)
class Region:
    """Some operations of a graph, in its order.

    Attributes:
        nodes: The operations, with the constants and the sizes that they read.
        inputs: The values made outside that they read.
        outputs: Their values whose elements are read outside.
    """

    nodes: tuple[fx.Node, ...]
    inputs: tuple[fx.Node, ...]
    outputs: tuple[fx.Node, ...]

    def outputs_in(self, values: Mapping[fx.Node, Any]) -> tuple[Any, ...]:
        """Return the values of its outputs."""
        return tuple(values[node] for node in self.outputs)


def region_of(nodes: Iterable[fx.Node]) -> Region:
    """Return the region of some operations.

    What lies between them, reading one and read by another, becomes part of it, and so do the
    pieces of a split, and the constants and the sizes that they read.
    """
    inside = _with_pieces(_with_between(set(nodes)))
    own = frozenset(inside)
    inputs: set[fx.Node] = set()
    pending = list(inside)
    while pending:
        for source in pending.pop().all_input_nodes:
            if source in inside:
                continue
            if source.op == "get_attr" or is_about_sizes(source):
                inside.add(source)
                pending.append(source)
            else:
                inputs.add(source)
    outputs = [node for node in own if _is_read_outside(node, inside)]
    return Region(tuple(sorted(inside)), tuple(sorted(inputs)), tuple(sorted(outputs)))


def _with_pieces(nodes: set[fx.Node]) -> set[fx.Node]:
    """Return some operations and the pieces taken of their results, which may change alone."""
    pieces = {
        user
        for node in nodes
        for user in node.users
        if user.target is operator.getitem and isinstance(user.args[1], int)
    }
    return nodes | pieces


def _with_between(nodes: set[fx.Node]) -> set[fx.Node]:
    """Return some operations and all that depend on one of them and lead to another."""
    first = min(nodes)
    depends = dict.fromkeys(nodes, True)
    for node in sorted(nodes):
        pending = list(node.all_input_nodes)
        while pending:
            current = pending[-1]
            sources = [] if current < first else current.all_input_nodes
            missing = [source for source in sources if source not in depends]
            if current in depends or not missing:
                depends.setdefault(current, any(depends[source] for source in sources))
                pending.pop()
            pending += missing if current not in depends else []
    return {node for node, is_between in depends.items() if is_between}


def _is_read_outside(node: fx.Node, inside: set[fx.Node]) -> bool:
    return any(user not in inside and not reads_metadata_only(user, node) for user in node.users)


def is_about_sizes(node: fx.Node) -> bool:
    """Whether a value is a size, a shape or a dtype, or a number computed from such values."""
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        if reads_metadata_only(current):
            continue
        is_arithmetic = current.target in _NUMBER_OPERATORS or current.target is operator.getitem
        if current.op != "call_function" or not is_arithmetic or not current.all_input_nodes:
            return False
        fresh = [source for source in current.all_input_nodes if source not in seen]
        if len(seen) > _MOST_SIZES:
            return False
        seen.update(fresh)
        pending += fresh
    return True


def successor(program: Program, before: Region) -> Region | None:
    """Return what stands in the place of a region after a rewrite, with its outputs in their order.

    Returns:
        None where what stands there reads values that the region did not read.
    """
    outputs = tuple(program.replacements.of(node) for node in before.outputs)
    given = set(before.inputs)
    inside: set[fx.Node] = set()
    pending = [node for node in outputs if node not in given]
    while pending:
        node = pending.pop()
        if node in inside:
            continue
        if node.op == "placeholder" or len(inside) > _MOST_NODES + len(before.nodes):
            return None
        inside.add(node)
        pending += [source for source in node.all_input_nodes if source not in given]
    return Region(tuple(sorted(inside)), before.inputs, outputs)


def other_reader(program: Program, before: Region, now: Region) -> fx.Node | None:
    """Return an operation outside that reads a tensor or a layer that is new.

    A new tensor that is itself an output stands for a value that others read before.
    """
    own = {*before.nodes, *now.nodes}
    for node in program.index.readers_of_placed():
        if node in now.outputs:
            continue
        readers = node.users if node.op == "get_attr" else (node,)
        for reader in readers:
            if reader not in own and (reader.users or reader.op == "output"):
                return reader
    return None
