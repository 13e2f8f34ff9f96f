"""Tracing the generated source of a graph module again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.overrides import TorchFunctionMode

from bnfuse.capture.tracer import ModelTracer

if TYPE_CHECKING:
    from collections.abc import Callable


def retrace(root: nn.Module, forward: Callable[..., Any]) -> fx.Graph:
    """Trace the generated ``forward`` of a graph module again, each module one call.

    Args:
        root: The module tree that the source reads as ``self``.
        forward: The compiled source.
    """

    class _Rebuilt(nn.Module):
        pass

    _Rebuilt.forward = forward
    host = _Rebuilt()
    host.__dict__.update(root.__dict__)
    tracer = _SourceTracer()
    with _Operators(tracer):
        return tracer.trace(host)


class _Operators(TorchFunctionMode):
    """Keeps operators that make tensors of numbers alone, which PyTorch does not offer a trace."""

    def __init__(self, tracer: fx.Tracer) -> None:
        super().__init__()
        self.tracer = tracer

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Make an operator a node, and run everything else."""
        if isinstance(func, torch._ops.OpOverload):
            return self.tracer.create_proxy("call_function", func, args, kwargs or {})
        return func(*args, **(kwargs or {}))


class _SourceTracer(ModelTracer):
    """Traces generated source, which has nothing left to notice."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:  # noqa: ARG002 - the signature is torch's
        """Every module is a call of its own."""
        return True

    def create_args_for_root(
        self, root_fn: Callable[..., Any], is_module: bool, concrete_args: Any = None
    ) -> tuple[Callable[..., Any], list[Any]]:
        """Make placeholders as torch.fx does."""
        return fx.Tracer.create_args_for_root(self, root_fn, is_module, concrete_args)
