"""Which activation a call is."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.ops.activations import activation_at
from tests.passes.branches import Block
from tests.support import program_of

if TYPE_CHECKING:
    from collections.abc import Callable


def activation(run: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> str:
    """Return the activation that the last operation of a forward is, as text."""
    program = program_of(Block(run, **layers).eval())
    *_, last, _ = program.graph.nodes
    return str(activation_at(program, last))


@pytest.mark.parametrize(
    ("run", "wanted"),
    [
        (lambda m, x: torch.relu(x), "relu"),
        (lambda m, x: F.relu6(x), "relu6"),
        (lambda m, x: torch.clamp(x, 0, 6), "hardtanh(0.0, 6.0)"),
        (lambda m, x: x.clip(-1, 1), "hardtanh(-1.0, 1.0)"),
        (lambda m, x: F.leaky_relu(x), "leaky_relu(0.01)"),
        (lambda m, x: F.gelu(x, approximate="tanh"), "gelu(tanh)"),
        (lambda m, x: x.sigmoid(), "sigmoid"),
        (lambda m, x: x.clamp(max=1), "None"),
        (lambda m, x: x.clamp(1, 0), "None"),
        (lambda m, x: F.prelu(x, x.new_ones(1)), "None"),
        (lambda m, x: F.elu(x), "None"),
        (lambda m, x: F.softmax(x, 1), "None"),
        (lambda m, x: x.exp(), "None"),
    ],
)
def test_functions(run: Callable[[Any, Tensor], Tensor], wanted: str) -> None:
    assert activation(run) == wanted


@pytest.mark.parametrize(
    ("module", "wanted"),
    [
        (nn.ReLU6(), "relu6"),
        (nn.Hardtanh(-2, 3), "hardtanh(-2.0, 3.0)"),
        (nn.GELU(approximate="tanh"), "gelu(tanh)"),
        (nn.GELU(), "gelu(none)"),
        (nn.PReLU(), "None"),
        (nn.ELU(), "None"),
    ],
    ids=str,
)
def test_modules(module: nn.Module, wanted: str) -> None:
    assert activation(lambda m, x: m.act(x), act=module) == wanted
    module.register_forward_hook(lambda *_: None)
    assert activation(lambda m, x: m.act(x), act=module) == "None"
