"""Which values may share memory, and which of them an in-place operation may write."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.graph.readers import reads_metadata_only

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx


class WrittenValues:
    """The values of a graph that an in-place operation may change after they were made.

    Two values are taken to share memory where one is made from the other by anything that is not
    known to make a new tensor. A value is written where anything that may share memory with it is.

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
        writers = []
        for node in graph.nodes:
            if may_write(node):
                writers.append(node)
            elif makes_new(node) or node.op in ("placeholder", "get_attr", "output"):
                continue
            for source in node.all_input_nodes:
                if not reads_metadata_only(node, source):
                    self._join(node, source)
        self._written = {self._root(writer) for writer in writers}

    def __contains__(self, node: fx.Node) -> bool:
        """Whether the memory of a value may be written by an in-place operation."""
        return self._root(node) in self._written

    def join(self, one: fx.Node, other: fx.Node) -> None:
        """Note that readers of one value read the other from now on."""
        is_written = one in self or other in self
        self._join(one, other)
        if is_written:
            self._written.add(self._root(one))

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
