"""Which nodes call, or read, what is at a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import fx, nn


OPS = ("call_module", "get_attr")


class PathIndex:
    """An index over a graph, made when it is first asked.

    ``fx.Graph.find_nodes`` looks through all nodes of an operation each time.

    Args:
        graph: The graph.

    Attributes:
        placed: Paths that something new was put at.
    """

    def __init__(self, graph: fx.Graph) -> None:
        self._graph = graph
        self.placed: set[str] = set()
        self._by_path: dict[tuple[str, str], list[fx.Node]] | None = None

    def readers_of_placed(self) -> list[fx.Node]:
        """Return what reads or calls anything new."""
        return [node for path in self.placed for op in OPS for node in self.at(op, path)]

    def at(self, op: str, path: str) -> list[fx.Node]:
        """Return the nodes with an operation and a path.

        The list is the index's own: whoever puts in a node adds it. Those that went are taken out
        here.
        """
        if self._by_path is None:
            self._by_path = {}
            for node in self._graph.nodes:
                if node.op in OPS:
                    self._by_path.setdefault((node.op, str(node.target)), []).append(node)
        nodes = self._by_path.setdefault((op, path), [])
        nodes[:] = [node for node in nodes if not node._erased and node.target == path]
        return nodes


def module_at(root: nn.Module, path: str) -> nn.Module:
    """Return the submodule at a path, as ``get_submodule`` does, in less time.

    Raises:
        AttributeError: There is none.

    >>> import torch
    >>> module_at(torch.nn.Sequential(torch.nn.ReLU()), "0")
    ReLU()
    """
    found = root
    for name in path.split(".") if path else ():
        inside = found._modules
        inner = inside.get(name) if type(inside) is dict else None  # TorchScript has its own
        if inner is None:
            return root.get_submodule(path)
        found = inner
    return found
