"""The working copy of a model: a module tree, the graph of its forward, and the edits passes make.

A constant belongs to its call site. Writing new weights for one call never changes what another
call reads: where a layer or a tensor has another reader, the call site gets one of its own.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

from bnfuse.affine import as_parameter
from bnfuse.graph.findings import Findings
from bnfuse.graph.index import PathIndex, module_at
from bnfuse.graph.readers import written_constants
from bnfuse.graph.replacements import Replacements

if TYPE_CHECKING:
    from torch import Tensor, fx

    from bnfuse.ops.calls import Call


@dataclass(frozen=True, slots=True, eq=False)
class Constant:
    """A tensor the model owns, and the attribute path it was read from."""

    path: str
    tensor: Tensor


class Program(Findings):
    """A copied model and its graph, edited in place by the passes.

    Attributes:
        root: The copied module tree; attribute paths are relative to it.
        graph: The graph of the root's forward.
        by_reference: Identities of modules that are the caller's own, never to be changed.
        other_axis: Names of batch norms that an example shows to normalize another axis.
        written: Paths of tensors that the forward, as it was captured, may write.
        replacements: What is read in the place of values that were replaced.
        index: Which nodes read what.
        calls: How nodes were read when they were as noted beside it (``bnfuse.ops.read_call``).
    """

    def __init__(
        self, root: nn.Module, graph: fx.Graph, by_reference: frozenset[int] = frozenset()
    ) -> None:
        self.other_axis: frozenset[str] = frozenset()
        self.root = root
        self.graph = graph
        self.by_reference = by_reference
        self.written = written_constants(graph)
        self.replacements = Replacements()
        self.calls: dict[fx.Node, tuple[tuple[object, ...], Call | None]] = {}
        self.refresh()
        self.is_edited = True  # whoever made the graph may go on with it

    def refresh(self) -> None:
        """Forget what was found out about the graph's values, since the graph has changed."""
        self.forget()
        self.index = PathIndex(self.graph)

    def module(self, path: str) -> nn.Module:
        """Return the submodule at ``path``; raises AttributeError where there is none."""
        return module_at(self.root, path)

    def tensor(self, path: str) -> Tensor | None:
        """Return the tensor at ``path``, or None where something else or nothing stands."""
        prefix, _, name = path.rpartition(".")
        try:
            found = getattr(self.module(prefix), name)
        except AttributeError:
            return None
        return found if isinstance(found, torch.Tensor) else None

    def own_module(self, node: fx.Node) -> nn.Module:
        """Give the call site ``node`` a module of its own and return it, to be changed freely.

        It is a shallow copy: its tensors are the old ones, its class and attributes stay.
        """
        mine = copy.copy(self.module(str(node.target)))
        mine._parameters, mine._buffers = dict(mine._parameters), dict(mine._buffers)
        mine._non_persistent_buffers_set = set(mine._non_persistent_buffers_set)
        self.put_module(node, mine)
        return mine

    def put_module(self, node: fx.Node, module: nn.Module) -> None:
        """Let a call site call another module, in the old one's place if nothing else reads it."""
        path = str(node.target)
        if not self.is_only_reader(node):
            path = self._fresh_path(path)
            node.target = path
            self.index.at("call_module", path).append(node)
        self._place(path, module)

    def own_tensor(self, node: fx.Node, name: str, old: str | None, tensor: Tensor) -> fx.Node:
        """Place a tensor for the call site ``node`` and return the ``get_attr`` node that reads it.

        Args:
            node: The call site that will read the tensor.
            name: What the tensor is to the call: ``weight`` or ``bias``.
            old: The path of the tensor it replaces, or a free path to prefer.
            tensor: The values.
        """
        path = old or f"{node.name}.{name}"
        readers = self.index.at("get_attr", path)
        read_elsewhere = any(set(reader.users) - {node} for reader in readers)
        if read_elsewhere or self._inside_called_module(path):
            path = self._fresh_path(path)
        self._place(path, as_parameter(tensor))
        return self._read(path, node)

    def new_tensor(self, node: fx.Node, layer: str, tensor: Tensor) -> fx.Node:
        """Place a tensor that takes the place of a node's value, and return what reads it.

        Args:
            node: The node that computes the value; the new one stands before it.
            layer: The layer to keep it in; the root if there is none.
            tensor: The values.
        """
        path = f"{layer}.{node.name}" if layer and self.has(layer) else node.name
        path = path if self._is_free(path) else self._fresh_path(path)
        self._place(path, as_parameter(tensor))
        return self._read(path, node)

    def _read(self, path: str, before: fx.Node) -> fx.Node:
        """Put in a node that reads a tensor, and return it."""
        with self.graph.inserting_before(before):
            self.index.at("get_attr", path).append(reader := self.graph.get_attr(path))
        return reader

    def place_module(self, path: str, module: nn.Module) -> str:
        """Put a new module at a path, or at the first free one beside it, and return that."""
        path = path if self._is_free(path) else self._fresh_path(path)
        self._place(path, module)
        return path

    def has(self, path: str) -> bool:
        """Whether anything stands at a path."""
        found: object = self.root
        for part in path.split("."):
            found = getattr(found, part, None)
        return found is not None

    def replace(self, node: fx.Node, value: fx.Node) -> None:
        """Let everything that reads one value read another, which is to be equal."""
        self.replacements.make(node, value)

    def erase(self, node: fx.Node) -> None:
        """Remove a node that nothing reads any more, and the constants that only it read."""
        if self.replacements.is_waiting(node):
            return
        inputs = node.all_input_nodes
        self.graph.erase_node(node)
        for source in inputs:
            if source.op == "get_attr" and not source.users:
                self.graph.erase_node(source)

    def is_only_reader(self, node: fx.Node) -> bool:
        """Whether ``node`` is all that reads the module it calls or anything inside it."""
        path = str(node.target)
        module = self.module(path)
        if len(self.index.at("call_module", path)) > 1:
            return False
        inside = [name for name, _ in module.named_parameters(remove_duplicate=False)]
        inside += [name for name, _ in module.named_buffers(remove_duplicate=False)]
        if any(self.index.at("get_attr", f"{path}.{name}") for name in inside):
            return False
        return not self._inside_called_module(path)

    def is_called(self, path: str) -> bool:
        """Whether the module at ``path``, or one above it, is called."""
        return bool(self.index.at("call_module", path)) or self._inside_called_module(path)

    def _inside_called_module(self, path: str) -> bool:
        """Whether a module above ``path`` is itself called, and so may read what is there."""
        return self._outside(path) != path

    def _outside(self, path: str) -> str:
        """Return ``path``, or one beside the outermost module above it that is itself called.

        Its forward may go through all that it holds, as that of a ``Sequential`` does: nothing new
        may stand inside. What is to go to ``net.block.conv`` goes to ``net.block_conv``.
        """
        parts = path.split(".")
        for count in range(1, len(parts)):
            if self.index.at("call_module", ".".join(parts[:count])):
                return ".".join([*parts[: count - 1], "_".join(parts[count - 1 :])])
        return path

    def _is_free(self, path: str) -> bool:
        """Whether something new may stand at ``path``; None is something."""
        prefix, _, name = path.rpartition(".")
        is_inside = self._inside_called_module(path)
        return not is_inside and not hasattr(self._ensure_parent(prefix), name)

    def _fresh_path(self, path: str) -> str:
        """Return ``path`` with the first free suffix: ``head.conv_2``, ``head.conv_3``, ..."""
        prefix, _, name = self._outside(path).rpartition(".")
        parent = self._ensure_parent(prefix)
        count = 2
        while hasattr(parent, f"{name}_{count}"):
            count += 1
        return f"{prefix}.{name}_{count}" if prefix else f"{name}_{count}"

    def _place(self, path: str, value: nn.Module | nn.Parameter) -> None:
        """Put a module or a parameter at ``path``, in place of what stands there."""
        self.index.placed.add(path)
        prefix, _, name = path.rpartition(".")
        parent = self._ensure_parent(prefix)
        if isinstance(value, nn.Module):
            parent.add_module(name, value)
        else:
            replace_tensor(parent, name, value)

    def _ensure_parent(self, prefix: str) -> nn.Module:
        """Return the module at ``prefix``, making empty modules on the way."""
        parent = self.root
        for part in filter(None, prefix.split(".")):
            if part not in parent._modules:
                parent.add_module(part, nn.Module())
            parent = parent.get_submodule(part)
        return parent


def replace_tensor(module: nn.Module, name: str, value: nn.Parameter) -> None:
    """Register a parameter, in place of the parameter, buffer or plain attribute of that name."""
    for place in (module.__dict__, module._buffers, module._parameters):
        place.pop(name, None)
    module._non_persistent_buffers_set.discard(name)
    module.register_parameter(name, value)
