"""What makes new tensors, and what may write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import fx, nn

from bnfuse.graph import Program
from bnfuse.ops.fresh import makes_new, may_write
from tests.moves.support import Model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Own(nn.Module):
    """A layer of the user's, which a trace does not look into."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mul_(2)


class Leaves(fx.Tracer):
    """Looks into nothing but the model itself."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return True


def last(run: Callable[[Any, Tensor], Any]) -> tuple[Program, fx.Node]:
    """Return a model's graph and what computes its result."""
    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda _m, _a, out: out)
    model = Model(
        run,
        conv=nn.Conv2d(3, 3, 1),
        relu=nn.ReLU(),
        inplace=nn.ReLU(inplace=True),
        hooked=hooked,
        own=Own(),
        flatten=nn.Flatten(),
    )
    graph = Leaves().trace(model)
    return Program(model, graph), list(graph.nodes)[-2]


# For each call whether it makes a new tensor, and whether it may write its input.
CALLS: dict[str, tuple[Callable[[Any, Tensor], Any], bool, bool]] = {
    "convolution": (lambda m, x: m.conv(x), True, False),
    "relu": (lambda m, x: m.relu(x), True, False),
    "relu-in-place": (lambda m, x: m.inplace(x), False, True),
    "hooked": (lambda m, x: m.hooked(x), False, True),
    "layer-of-the-user": (lambda m, x: m.own(x), False, True),
    "flatten": (lambda m, x: m.flatten(x), False, False),
    "sum": (lambda m, x: x + 1, True, False),
    "mean": (lambda m, x: x.mean((2, 3)), True, False),
    "view": (lambda m, x: x.view(-1), False, False),
    "contiguous": (lambda m, x: x.contiguous(), False, False),
    "unknown": (lambda m, x: torch.cumprod(x, 1), False, False),
    "method-in-place": (lambda m, x: x.add_(1), True, True),
    "function-in-place": (lambda m, x: torch.relu_(x), False, True),
    "argument-in-place": (lambda m, x: nn.functional.relu(x, True), False, True),
    "argument-in-place-by-name": (lambda m, x: nn.functional.relu(x, inplace=True), False, True),
    "exported": (lambda m, x: torch.ops.aten.relu.default(x), True, False),
    "exported-view": (lambda m, x: torch.ops.aten.view.default(x, [-1]), False, False),
    "exported-in-place": (lambda m, x: torch.ops.aten.relu_.default(x), False, True),
}


@pytest.mark.parametrize("name", CALLS)
def test_calls(name: str) -> None:
    run, is_new, is_writer = CALLS[name]
    program, node = last(run)
    assert may_write(program, node) is is_writer
    assert makes_new(program, node) is is_new


def test_the_checks_of_an_exported_program_write_nothing() -> None:
    model = Model(lambda m, x: m.conv(x), conv=nn.Conv2d(3, 3, 1)).eval()
    exported = torch.export.export(model, (torch.zeros(1, 3, 4, 4),)).module()
    assert isinstance(exported, fx.GraphModule)
    checks = [node for node in exported.graph.nodes if node.op == "call_module"]
    program = Program(exported, exported.graph)
    assert checks
    assert not any(may_write(program, node) for node in checks)
