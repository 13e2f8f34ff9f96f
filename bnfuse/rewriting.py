"""Optimize the largest parts of a model that can be captured, from the whole down."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from bnfuse.capture import Capture, capture
from bnfuse.graph import OptimizedModule, assemble
from bnfuse.graph.hooks import FORWARD_HOOKS
from bnfuse.graph.part import PartForward, install, part_forward
from bnfuse.passes import PIPELINE, run_pass
from bnfuse.report.inventory import Inventory, Settled, not_captured

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.capture import ModelCopy


@dataclass(slots=True)
class TreeRewriter:
    """Optimizes a copied model in place, part by part, and collects what happened.

    Attributes:
        by_reference: Identities of modules that are the caller's own; they stay as they are.
        is_skipped: Whether a layer, given by its full name, is to be left alone.
        other_axis: Batch norms known from an example to normalize another axis.
        outcomes: What happened in each part, in order.
    """

    by_reference: frozenset[int]
    is_skipped: Callable[[str], bool]
    other_axis: frozenset[str] = frozenset()
    outcomes: list[Settled] = field(default_factory=list)
    _seen: set[int] = field(default_factory=set)

    def whole(self, copied: ModelCopy) -> nn.Module:
        """Return the optimized model: a graph of the whole, or the model with graphs inside."""
        root = copied.model
        if part_forward(root):
            return root
        captured = capture(root, self.by_reference)
        if isinstance(captured, Capture) and captured.assumptions.hold_always:
            return self._graph(captured, "")
        self._part(root, "", captured)
        return root

    def _part(self, module: nn.Module, path: str, captured: Capture | str) -> None:
        """Give a module a graph of its forward, or go on with its children."""
        if isinstance(captured, str):
            self._children(module, path, captured)
            return
        for table in FORWARD_HOOKS:  # they run around the part, not inside its graph
            getattr(captured.program.root, table).clear()
        before = self._folds
        optimized = self._graph(captured, path)
        if self._folds > before:
            install(PartForward(module, optimized, captured.assumptions))

    @property
    def _folds(self) -> int:
        """How many batch norms have been folded so far."""
        return sum(len(outcome.folded) for outcome in self.outcomes)

    def _children(self, module: nn.Module, path: str, obstacle: str) -> None:
        """Optimize the children of a module whose own forward stays Python."""
        owner = path or type(module).__name__
        if isinstance(module, _BatchNorm):
            self.outcomes.append(not_captured(owner, obstacle))
        for name, child in list(module.named_children()):
            full = f"{path}.{name}" if path else name
            if id(child) in self._seen or part_forward(child):
                continue
            self._seen.add(id(child))
            if isinstance(child, _BatchNorm) and _is_torch_leaf(child):
                self.outcomes.append(not_captured(full, f"{owner}: {obstacle}"))
            elif id(child) in self.by_reference:
                self.outcomes.append(Inventory.of_modules(child, full).all_kept("not-copyable"))
            elif not _is_torch_leaf(child):
                self._part(child, full, capture(child, self.by_reference))

    def _graph(self, captured: Capture, path: str) -> OptimizedModule:
        """Run the passes on a captured part, and on the parts inside calls it cannot see into."""
        program = captured.program
        program.other_axis = self.other_axis
        inventory = Inventory.of_program(program, path)
        prefix = f"{path}." if path else ""
        results = [
            run_pass(program, one, lambda name: self.is_skipped(prefix + name)) for one in PIPELINE
        ]
        self.outcomes.append(inventory.settled(results))
        optimized = assemble(program)
        for node in program.graph.nodes:
            if node.op == "call_module":
                target = str(node.target)
                self._inside(program.module(target), prefix + target)
        return optimized

    def _inside(self, module: nn.Module, path: str) -> None:
        """Optimize a module that a graph calls as one, such as one with hooks."""
        if id(module) in self._seen or part_forward(module) or _is_torch_leaf(module):
            return
        self._seen.add(id(module))
        if id(module) in self.by_reference:
            self.outcomes.append(Inventory.of_modules(module, path).all_kept("not-copyable"))
            return
        self._part(module, path, capture(module, self.by_reference))


def _is_torch_leaf(module: nn.Module) -> bool:
    """Whether a module is one of PyTorch's own layers, or TorchScript, with nothing to trace."""
    if isinstance(module, torch.jit.ScriptModule):
        return True
    containers = (nn.Sequential, nn.ModuleList, nn.ModuleDict)
    is_own = type(module).__module__.startswith(("torch.nn.", "torch.ao."))
    return is_own and type(module) is not nn.Module and not isinstance(module, containers)
