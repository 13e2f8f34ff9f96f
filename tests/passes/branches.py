"""Blocks of parallel branches, and what the tests of their merging ask of them."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import bnfuse
from bnfuse.kernels import FusedLayer
from tests.support import ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import fx

BOUND = 1e-12


class Block(nn.Module):
    """Layers by name and a forward over one value."""

    def __init__(self, run: Callable[..., object], **layers: nn.Module) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            self.add_module(name, layer)

    def forward(self, x: torch.Tensor) -> object:
        return self.run(self, x)


class Block2(Block):
    """The same over two values."""

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> object:  # type: ignore[override]
        return self.run(self, x, y)


def conv(size: Any = 3, inputs: int = 4, outputs: int = 4, **options: Any) -> nn.Conv2d:
    """Return a convolution padded so that it keeps the sizes."""
    sizes = (size, size) if isinstance(size, int) else size
    options.setdefault("padding", tuple(k // 2 for k in sizes))
    return nn.Conv2d(inputs, outputs, sizes, **options)


def conv_norm(size: Any = 3, outputs: int = 4, **options: Any) -> nn.Sequential:
    """Return a convolution without bias and a batch norm."""
    return nn.Sequential(
        conv(size, outputs=outputs, bias=False, **options), nn.BatchNorm2d(outputs)
    )


def calls_of(fused: nn.Module) -> Counter[str]:
    """Count the calls of a graph: layers by class, functions and methods by name.

    A fused layer counts as the layer it stands for and what it does beside.
    """
    graph: fx.Graph = fused.graph  # type: ignore[assignment]  # it is a graph module
    found: Counter[str] = Counter()
    for node in graph.nodes:
        if node.op == "call_module":
            module = fused.get_submodule(str(node.target))
            found[type(module).__name__.removeprefix("Fused")] += 1
            if isinstance(module, FusedLayer):
                parts = (module.epilogue.binary, module.epilogue.activation)
                found.update(str(part) for part in parts if part)
        elif node.op in ("call_function", "call_method"):
            found[str(getattr(node.target, "__name__", node.target))] += 1
    return found


def merged(model: nn.Module, *inputs: torch.Tensor) -> nn.Module:
    """Optimize, check outputs, inputs and a second run, and return the optimized model."""
    model = ready(model)
    given, again = ([x.clone() for x in inputs] for _ in "ab")
    with torch.no_grad():
        wanted = model(*given)
        fused = bnfuse.optimize(model)
        assert relative_error(fused(*again), wanted) <= BOUND
    assert all(map(torch.equal, given, again))
    assert calls_of(bnfuse.optimize(fused)) == calls_of(fused)
    return fused
