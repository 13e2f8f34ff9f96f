"""Which values may share memory, and which of them an in-place operation may write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from bnfuse.graph.readers import reads_metadata_only, writes_in_place

if TYPE_CHECKING:
    from collections.abc import Callable


class WrittenValues:
    """The values of a graph that an in-place operation may change after they were made.

    Two values are taken to share memory where one is made from the other by anything that is not
    known to make a new tensor. A value is written where an operation that comes after it may write
    anything that may share memory with it.

    Args:
        graph: The graph.
        makes_new: Whether a node is known to return a tensor of its own.
        may_write: Whether a node may write into what it is given.
    """

    def __init__(
        self,
        graph: fx.Graph,
        makes_new: Callable[[fx.Node], bool],
        may_write: Callable[[fx.Node], bool],
    ) -> None:
        self._parent: dict[fx.Node, fx.Node] = {}
        self._position = {node: count for count, node in enumerate(graph.nodes)}
        writers = []
        for node in graph.nodes:
            if may_write(node):
                writers.append(node)
            elif makes_new(node) or node.op in ("placeholder", "get_attr", "output"):
                continue
            for source in _sources(node):
                if not reads_metadata_only(node, source):
                    self._join(node, source)
        self._last_writer: dict[fx.Node, int] = {}
        for writer in writers:  # in order, so that the last one stays
            self._last_writer[self._root(writer)] = self._position[writer]

    def __contains__(self, node: fx.Node) -> bool:
        """Whether the memory of a value may be written after the value was made."""
        last = self._last_writer.get(self._root(node), -1)
        return last > self._position.get(node, -1)

    def join(self, one: fx.Node, other: fx.Node) -> None:
        """Note that readers of one value read the other from now on.

        A value that was not there before stands where the one stood that it takes the place of.
        """
        for new, old in ((one, other), (other, one)):
            if new not in self._position and old in self._position:
                self._position[new] = self._position[old]
        last = max(self._last_writer.get(self._root(node), -1) for node in (one, other))
        self._join(one, other)
        self._last_writer[self._root(one)] = last

    def _join(self, one: fx.Node, other: fx.Node) -> None:
        mine, theirs = self._root(one), self._root(other)
        if mine is not theirs:
            self._parent[mine] = theirs

    def _root(self, node: fx.Node) -> fx.Node:
        path = []
        while node in self._parent:
            path.append(node)
            node = self._parent[node]
        for visited in path:
            self._parent[visited] = node
        return node


def _sources(node: fx.Node) -> list[fx.Node]:
    """Return what a node's value may share memory with; in-place ones return their target."""
    if writes_in_place(node) and node.args and isinstance(node.args[0], fx.Node):
        output = node.kwargs.get("out")
        return [node.args[0], *([output] if isinstance(output, fx.Node) else [])]
    return node.all_input_nodes
