"""The bounds of clamps of any spelling, and where a clamp with bounds for each channel is put."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.graph.clamp import ChannelClamp
from bnfuse.ops import read_call
from bnfuse.ops.clamps import bounds_of, write_clamp
from tests.moves.support import Model, image
from tests.support import program_of

if TYPE_CHECKING:
    from collections.abc import Callable

INF = float("inf")
KNOWN: dict[str, tuple[Callable[[Any, Any], Any], tuple[float, float]]] = {
    "relu": (lambda _, x: F.relu(x), (0.0, INF)),
    "relu-layer": (lambda m, x: m.relu(x), (0.0, INF)),
    "relu6": (lambda _, x: F.relu6(x), (0.0, 6.0)),
    "hardtanh": (lambda _, x: F.hardtanh(x, -2.0, 3.0), (-2.0, 3.0)),
    "hardtanh-layer": (lambda m, x: m.hard(x), (-1.0, 1.0)),
    "clamp": (lambda _, x: x.clamp(1, 2), (1.0, 2.0)),
    "clamp-min": (lambda _, x: torch.clamp_min(x, 1), (1.0, INF)),
    "clamp-max": (lambda _, x: x.clamp_max(1), (-INF, 1.0)),
    "clamp-none": (lambda _, x: x.clamp(None, 2.5), (-INF, 2.5)),
    "channels": (lambda m, x: m.channels(x), (-5.0, INF)),
}
UNKNOWN: dict[str, Callable[[Any, Any], Any]] = {
    "leaky": lambda _, x: F.leaky_relu(x, 0.1),
    "leaky-flat": lambda _, x: F.leaky_relu(x, 0.0),
    "prelu": lambda m, x: m.prelu(x),
    "in-the-wrong-order": lambda _, x: x.clamp(2, 1),
    "nan": lambda _, x: x.clamp(min=float("nan")),
    "truth-value": lambda _, x: x.clamp(min=True),
    "tensor": lambda m, x: x.clamp(min=m.zero),
    "size": lambda _, x: x.clamp(min=x.shape[0]),
    "shifted": lambda m, x: m.shifted(x),
    "sigmoid": lambda _, x: x.sigmoid(),
}


def model(run: Callable[[Any, Any], Any]) -> Model:
    low, shift = torch.full((1, 3, 1, 1), -5.0), torch.ones(1, 3, 1, 1)
    return Model(
        run, relu=nn.ReLU(), hard=nn.Hardtanh(), prelu=nn.PReLU(), zero=nn.Buffer(torch.zeros(1)),
        channels=ChannelClamp(low), shifted=ChannelClamp(low, None, shift),
    ).eval()  # fmt: skip


def call_in(run: Callable[[Any, Any], Any]) -> tuple[Any, Any]:
    program = program_of(model(run))
    node = next(n for n in reversed(program.graph.nodes) if n.op != "output")
    return program, read_call(program, node)


@pytest.mark.parametrize("name", KNOWN)
def test_known_bounds(name: str) -> None:
    run, wanted = KNOWN[name]
    found = bounds_of(*call_in(run))
    assert found is not None
    assert (found.low.max().item(), found.high.min().item()) == wanted


@pytest.mark.parametrize("name", UNKNOWN)
def test_unknown_bounds(name: str) -> None:
    assert bounds_of(*call_in(UNKNOWN[name])) is None


def test_bounds_that_the_forward_writes() -> None:
    def run(m: Any, x: Any) -> Any:
        m.channels.min.add_(1)
        return m.channels(x)

    assert bounds_of(*call_in(run)) is None


@pytest.mark.parametrize("name", ["relu", "relu-layer", "clamp"])
def test_a_clamp_is_put_in_the_place(name: str) -> None:
    program, call = call_in(KNOWN[name][0])
    clamp = ChannelClamp(torch.full((1, 3, 1, 1), 0.25))
    write_clamp(program, call, clamp)
    assert call.node.op == "call_module"
    assert program.module(str(call.node.target)) is clamp
    assert call.node.args == (call.input,)
    assert not call.node.kwargs
    assert program.index.at("call_module", str(call.node.target)) == [call.node]
    program.graph.lint()
    made = torch.fx.GraphModule(program.root, program.graph)
    assert torch.equal(made(image()), image().clamp(min=0.25))
