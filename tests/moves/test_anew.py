"""What is laid out one way, however its input is: held against PyTorch itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from bnfuse.capture import capture
from bnfuse.capture.capture import Capture
from bnfuse.moves.anew import is_laid_out_anew
from tests.passes.branches import Block
from tests.support import noise

if TYPE_CHECKING:
    from collections.abc import Callable

ANEW: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "linear": lambda m, x: m.linear(x),
    "contiguous": lambda m, x: x.contiguous(),
    "product": lambda m, x: torch.matmul(x, m.linear.weight.t()),
    "mean": lambda m, x: x.mean((2, 3)),
    "pooled": lambda m, x: nn.functional.adaptive_avg_pool2d(x, 1),
}
AS_BEFORE: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "activation": lambda m, x: x.relu(),
    "sum": lambda m, x: x + 1.0,
    "convolution": lambda m, x: m.conv(x),
    "channels-last": lambda m, x: x.contiguous(memory_format=torch.channels_last),
    "transposed": lambda m, x: x.transpose(1, 2),
}


def steps(value: Tensor) -> tuple[int, ...]:
    """Return the strides that matter: those of axes with more than one element."""
    return tuple(s for s, size in zip(value.stride(), value.shape, strict=True) if size > 1)


def last(run: Callable[[Any, Tensor], Tensor]) -> tuple[nn.Module, bool]:
    model = Block(run, linear=nn.Linear(6, 5), conv=nn.Conv2d(4, 4, 1)).double().eval()
    captured = capture(model, frozenset())
    assert isinstance(captured, Capture)
    node = captured.program.graph.output_node().args[0]
    return model, is_laid_out_anew(captured.program, node)  # type: ignore[arg-type]  # a node


@pytest.mark.parametrize("name", ANEW)
def test_anew(name: str) -> None:
    model, is_anew = last(ANEW[name])
    assert is_anew
    x = noise(2, 4, 5, 6)
    others = (
        x.transpose(2, 3).contiguous().transpose(2, 3),
        x.to(memory_format=torch.channels_last),
    )
    with torch.no_grad():
        assert {steps(model(other)) for other in others} == {steps(model(x))}


@pytest.mark.parametrize("name", AS_BEFORE)
def test_as_before(name: str) -> None:
    assert not last(AS_BEFORE[name])[1]


def test_inputs_are_no_result() -> None:
    assert last(lambda m, x: x)[1]
