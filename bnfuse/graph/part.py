"""A module that keeps its own Python and runs a graph for the calls the graph stands for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    import inspect
    from types import CodeType

    from torch import nn

    from bnfuse.graph.module import OptimizedModule


class Assumptions(Protocol):
    """Which calls a graph stands for."""

    @property
    def signature(self) -> inspect.Signature:
        """The signature of the forward, without ``self``."""

    def graph_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        """Return the arguments to call the graph with, or None where it does not stand for them."""


class PartForward:
    """The forward of a part of a model: its graph where that stands for the call, else its Python.

    The part itself stays as it was, layers, weights and all, so that whatever else reads it, calls
    a piece of it or iterates over it finds what it would find in the unfused model.

    Args:
        part: The module.
        optimized: The graph of its forward.
        assumptions: Which calls the graph stands for.
    """

    def __init__(
        self, part: nn.Module, optimized: OptimizedModule, assumptions: Assumptions
    ) -> None:
        self.part = part
        self.optimized = optimized
        self.assumptions = assumptions

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
        """Run the graph, or the part's own Python in training mode and for all other calls."""
        if not self.part.training:
            given = self.assumptions.graph_arguments(args, kwargs)
            if given is not None:
                return self.optimized(*given)
        return type(self.part).forward(self.part, *args, **kwargs)


def is_part(module: nn.Module) -> bool:
    """Whether a module already runs a graph as a part."""
    return isinstance(vars(module).get("forward"), PartForward)


def install(part: nn.Module, host: nn.Module, name: str, forward: PartForward) -> None:
    """Make a module run a graph, and register the graph so that it moves with the model.

    Args:
        part: The module.
        host: The module to register the graph in: the part, or one around it where adding a child
            to the part would change what iterating over it yields.
        name: The name of the graph in the host.
        forward: The forward to install.
    """
    host.add_module(name, forward.optimized)
    part.__dict__["forward"] = forward
