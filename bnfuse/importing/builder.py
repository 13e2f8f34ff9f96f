"""The graph being made of a file, and the tree of its layers and constants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn
from torch.utils import _pytree as pytree

from bnfuse.importing.names import Paths, path
from bnfuse.importing.sizes import Sizes

if TYPE_CHECKING:
    from collections.abc import Callable

FOLDER = "constants"
"""Where constants stand whose names have no folder."""


@dataclass(slots=True)
class Builder:
    """Puts calls into a graph, and computes at once what depends on constants alone.

    Attributes:
        graph: The graph.
        root: What holds its layers and constants.
        arguments: The inputs of the file.
    """

    graph: fx.Graph = field(default_factory=fx.Graph)
    root: nn.Module = field(default_factory=nn.Module)
    arguments: dict[str, fx.Node] = field(default_factory=dict)
    _paths: Paths = field(default_factory=Paths)
    _names: dict[int, tuple[str, Tensor]] = field(
        default_factory=dict
    )  # kept: no other gets its id
    _lifted: dict[int, fx.Node] = field(default_factory=dict)
    _parameters: dict[int, nn.Parameter] = field(default_factory=dict)
    _sizes: dict[tuple[fx.Node, int], fx.Node] = field(default_factory=dict)

    def name(self, tensor: Tensor, name: str) -> None:
        """Note what a constant is called in the file; the first name stays."""
        self._names.setdefault(id(tensor), (name, tensor))

    def name_of(self, tensor: Tensor) -> str:
        """Return what a constant is called in the file, empty if it is made here."""
        return self._names.get(id(tensor), ("", tensor))[0]

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Call a function: at once where all it is given is known, else in the graph."""
        if not _has_nodes((args, kwargs)):
            with torch.no_grad():
                return function(*args, **kwargs)
        args, kwargs = self._as_arguments((args, kwargs))
        return self.graph.call_function(function, args, kwargs)

    def method(self, name: str, given: Tensor | fx.Node, *args: Any) -> Any:
        """Call a method of a tensor, likewise."""
        if not _has_nodes((given, args)):
            with torch.no_grad():
                return getattr(given, name)(*args)
        return self.graph.call_method(name, self._as_arguments((given, *args)))

    def size(self, given: Tensor | fx.Node, axis: int) -> int | fx.Node:
        """Return the size of an axis: a node that reads it, the same one each time."""
        if isinstance(given, Tensor):
            return given.shape[axis]
        if (given, axis) not in self._sizes:
            self._sizes[given, axis] = self.graph.call_method("size", (given, axis))
        return self._sizes[given, axis]

    def layer(self, module: nn.Module, name: str, given: Tensor | fx.Node) -> Any:
        """Call a layer, which gets this name or one like it."""
        if isinstance(given, Tensor):
            with torch.no_grad():
                return module(given)
        target = self._paths.unused(path(name))
        self._folder(target).add_module(target.rpartition(".")[2], module)
        return self.graph.call_module(target, (given,))

    def parameter(self, tensor: Tensor) -> nn.Parameter:
        """Return a constant as a parameter, the same one each time: what is shared stays so."""
        if id(tensor) not in self._parameters:
            self._names.setdefault(id(tensor), ("", tensor))
            self._parameters[id(tensor)] = nn.Parameter(tensor, requires_grad=False)
        return self._parameters[id(tensor)]

    def lifted(self, tensor: Tensor) -> fx.Node:
        """Return the node that stands for a constant."""
        if id(tensor) not in self._lifted:
            name, kept = self._names.setdefault(id(tensor), ("constant", tensor))
            wanted = path(name)
            # A name without a folder could be one that torch.onnx gives to a value it makes.
            target = self._paths.unused(wanted if "." in wanted else f"{FOLDER}.{wanted}")
            self._folder(target).register_buffer(target.rpartition(".")[2], kept)
            self._lifted[id(tensor)] = self.graph.get_attr(target)
        return self._lifted[id(tensor)]

    def as_tensor(self, sizes: Sizes) -> Tensor | fx.Node:
        """Return sizes as a tensor that the graph makes."""
        entries = [
            self.call(torch.scalar_tensor, entry, dtype=torch.int64) for entry in sizes.entries
        ]
        made: Tensor | fx.Node = entries[0] if sizes.is_scalar else self.call(torch.stack, entries)
        return made

    def _as_arguments(self, given: Any) -> Any:
        """Return arguments with nodes in place of constants."""
        return pytree.tree_map_only(Tensor, self.lifted, given)

    def _folder(self, target: str) -> nn.Module:
        """Return the module that holds what has this path, made where there is none."""
        holder = self.root
        for part in target.split(".")[:-1]:
            if part not in holder._modules:
                holder.add_module(part, nn.Module())
            holder = holder.get_submodule(part)
        return holder


def _has_nodes(given: Any) -> bool:
    return any(isinstance(leaf, fx.Node) for leaf in pytree.tree_leaves(given))
