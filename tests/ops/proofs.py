"""Compare what is proven about shapes with the shapes of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from bnfuse.capture import Capture, capture
from bnfuse.ops.shapes import Shapes

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.ops.shape_rules import Shape

X = torch.ones(2, 4, 6, 6)


class Model(nn.Module):
    """Layers that fix ranks and sizes, and a forward to be given."""

    def __init__(self, run: Callable[[Any, Any], object]) -> None:
        super().__init__()
        self.run = run
        self.norm, self.conv = nn.BatchNorm2d(4), nn.Conv2d(4, 6, 3, padding=1)
        self.up, self.linear = nn.ConvTranspose2d(4, 8, 2, stride=2, groups=2), nn.Linear(6, 5)
        self.split = nn.Conv2d(4, 4, 1)
        self.index = nn.Buffer(torch.tensor([3, 0, 3]))
        self.bound, self.none = nn.Buffer(torch.zeros(2, 1, 1, 1, 1)), nn.Buffer(torch.zeros(0))

    def forward(self, x: torch.Tensor) -> object:
        return self.run(self, self.norm(x))


class Comparing(fx.Interpreter):
    """Runs a graph and compares each tensor with what is proven about it."""

    def __init__(self, module: fx.GraphModule, shapes: Shapes) -> None:
        super().__init__(module)
        self.shapes = shapes
        self.unknown: dict[object, int] = {}

    def run_node(self, n: fx.Node) -> Any:
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            rank = self.shapes.rank(n)
            assert rank in (None, value.ndim), n
            self.compare(self.shapes.of(n), value)
        pieces = self.shapes.pieces(n)
        if pieces is not None:
            assert len(pieces) == len(value)
            for proven, piece in zip(pieces, value, strict=True):
                self.compare(proven, piece)
        return value

    def compare(self, proven: Shape | None, value: torch.Tensor) -> None:
        if proven is None:
            return
        assert len(proven) == value.ndim
        for size, real in zip(proven, value.shape, strict=True):
            known = size if isinstance(size, int) else self.unknown.setdefault(size, real)
            assert known == real, (proven, value.shape)


def proven_of_output(
    run: Callable[[Any, Any], object], x: torch.Tensor = X, *, batched: bool = False
) -> Shape | None:
    """Compare all values of a forward, and return what is proven about its result."""
    captured = capture(Model(run).eval())
    assert isinstance(captured, Capture), captured
    program = captured.program
    shapes = Shapes(program, batched=batched)
    with torch.no_grad():
        Comparing(fx.GraphModule(program.root, program.graph), shapes).run(x)
    output = program.graph.output_node().args[0]
    return shapes.of(output) if isinstance(output, fx.Node) else None


def numbers(shape: Shape | None) -> tuple[int | None, ...] | None:
    """Return a shape with None for unknown sizes."""
    return None if shape is None else tuple(s if isinstance(s, int) else None for s in shape)
