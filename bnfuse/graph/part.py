"""A module that keeps its own Python and runs a graph for the calls the graph stands for."""

from __future__ import annotations

from contextlib import contextmanager
from itertools import chain
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import fx

from bnfuse.graph.guards import assume_rank

if TYPE_CHECKING:
    import inspect
    from collections.abc import Callable, Iterator
    from types import CodeType

    from torch import nn

    from bnfuse.graph.module import OptimizedModule


class Assumptions(Protocol):
    """Which calls a graph stands for."""

    @property
    def signature(self) -> inspect.Signature:
        """The signature of the forward, without ``self``."""

    @property
    def hold_for_one_shape(self) -> bool:
        """Whether the graph stands for calls of one shape only."""

    def graph_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        """Return the arguments to call the graph with, or None where it does not stand for them."""

    def result(self, outputs: Any) -> Any:
        """Return the forward's result from what the graph returned."""


class PartForward:
    """The forward of a part of a model: its graph where that stands for the call, else its Python.

    The part itself stays as it was, layers, weights and all, so that whatever else reads it, calls
    a piece of it, counts its parameters or iterates over it finds what it would find in the
    unfused model. The graph is no child of the part; it moves with it (see ``PartApply``) and is
    given up when the part loads other weights.

    Args:
        part: The module.
        optimized: The graph of its forward.
        assumptions: Which calls the graph stands for.
    """

    def __init__(
        self, part: nn.Module, optimized: OptimizedModule, assumptions: Assumptions
    ) -> None:
        self.part = part
        self.optimized: OptimizedModule | None = optimized
        self.assumptions = assumptions
        self.is_registered = False
        self.inner = tuple(
            m for m in part.modules() if m is not part and not m.training and not _has_hooks(m)
        )

    @property
    def __signature__(self) -> inspect.Signature:
        """The signature of the part's own forward."""
        return self.assumptions.signature

    @property
    def __code__(self) -> CodeType:
        """Where the part's own forward is written, which torch.export notes."""
        code: CodeType = type(self.part).forward.__code__
        return code

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the graph, or the part's own Python in training mode and for all other calls.

        Python runs as well where a layer inside was given a hook since, which has to be called,
        and under PyTorch's own tracers, which cannot lift weights that are not registered.
        """
        if self.part.training or any(inner.training for inner in self.inner):
            self.give_up()  # statistics may change now
        graph = self.optimized
        if graph is None or self._is_traced() or any(map(_has_hooks, self.inner)):
            return type(self.part).forward(self.part, *args, **kwargs)
        given = self.assumptions.graph_arguments(args, kwargs)
        if given is None:
            return type(self.part).forward(self.part, *args, **kwargs)
        return self.assumptions.result(graph(*given))

    def give_up(self, *_: Any) -> None:
        """Run the part's own Python from now on: its weights are not those of the graph."""
        self.optimized = None

    def _is_traced(self) -> bool:
        if self.assumptions.hold_for_one_shape:
            return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None
        return torch.compiler.is_compiling() and not self.is_registered


class PartApply:
    """Applies a function to the tensors of a part and of its graph: ``.to``, ``.half`` and others.

    Args:
        part: The module.
        forward: Its forward.
    """

    def __init__(self, part: nn.Module, forward: PartForward) -> None:
        self.part = part
        self.forward = forward

    def __call__(self, function: Callable[..., Any], recurse: bool = True) -> nn.Module:
        """Do what ``nn.Module._apply`` does, for both.

        A graph of an example may name the dtypes and devices it was captured with.
        """
        before = self._kinds()
        if self.forward.optimized is not None and recurse:
            self.forward.optimized._apply(function)
        type(self.part)._apply(self.part, function, recurse)  # type: ignore[no-untyped-call]  # torch's
        if self.forward.assumptions.hold_for_one_shape and self._kinds() != before:
            self.forward.give_up()
        return self.part

    def _kinds(self) -> list[tuple[torch.dtype, torch.device]]:
        tensors = chain(self.part.parameters(), self.part.buffers())
        return [(tensor.dtype, tensor.device) for tensor in tensors]


def _has_hooks(module: nn.Module) -> bool:
    return bool(module._forward_hooks or module._forward_pre_hooks)


def part_forward(module: nn.Module) -> PartForward | None:
    """Return the forward of a module that runs a graph as a part, or None for any other."""
    forward = vars(module).get("forward")
    return forward if isinstance(forward, PartForward) else None


def install(forward: PartForward) -> None:
    """Make a module run a graph as a part."""
    part = forward.part
    part.__dict__["forward"] = forward
    part.__dict__["_apply"] = PartApply(part, forward)
    part.register_load_state_dict_post_hook(forward.give_up)  # type: ignore[no-untyped-call]  # torch's


@contextmanager
def registered_parts(root: nn.Module) -> Iterator[None]:
    """Register the graphs of all parts in ``root``, so that an exporter lifts their weights.

    Where iterating over ``root`` would yield them too, they are not, and the export sees the parts'
    own Python.
    """
    found: dict[int, PartForward] = {}
    pending = [] if hasattr(type(root), "__iter__") else [root]
    while pending:
        for module in pending.pop().modules():
            forward = part_forward(module)
            if forward is not None and forward.optimized is not None and id(forward) not in found:
                found[id(forward)] = forward
                pending.append(forward.optimized)
    names = {f"bnfuse_graph_{count}": forward for count, forward in enumerate(found.values())}
    for name, forward in names.items():
        root.add_module(name, forward.optimized)
        forward.is_registered = True
    try:
        yield
    finally:
        for name, forward in names.items():
            del root._modules[name]
            forward.is_registered = False


def has_guard(module: nn.Module) -> bool:
    """Whether a graph of a module, or of a part of it, refuses values of other ranks."""
    for inner in module.modules():
        if isinstance(inner, fx.GraphModule):
            targets = (node.target for node in inner.graph.nodes)
            if any(target is assume_rank for target in targets):
                return True
        part = part_forward(inner)
        if part is not None and part.optimized is not None and has_guard(part.optimized):
            return True
    return False
