"""Programs for the tests of the checks, with their nodes by name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from bnfuse.graph import Program

if TYPE_CHECKING:
    from collections.abc import Callable


class Written(nn.Module):
    """Layers and tensors by name, and what its forward computes with them."""

    def __init__(self, run: Callable[..., Any], **parts: nn.Module | torch.Tensor) -> None:
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, nn.Module):
                self.add_module(name, part)
            else:
                self.register_buffer(name, part)


class One(Written):
    """A forward over one value."""

    def forward(self, x: Any) -> Any:
        return self.run(self, x)


class Two(Written):
    """A forward over two values."""

    def forward(self, x: Any, y: Any) -> Any:
        return self.run(self, x, y)


class Three(Written):
    """A forward over three values."""

    def forward(self, x: Any, y: Any, z: Any) -> Any:
        return self.run(self, x, y, z)


def traced(model: nn.Module) -> tuple[Program, dict[str, fx.Node]]:
    """Return a program of the model itself, and its nodes by name."""
    program = Program(model.eval(), fx.Tracer().trace(model))
    return program, {node.name: node for node in program.graph.nodes}
