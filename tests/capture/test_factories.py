"""Tensors whose size is a value of the graph are made when the graph runs."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import fx, nn

from bnfuse.graph import assemble
from tests.support import noise, program_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Making(nn.Module):
    """Adds what a function makes of its input."""

    def __init__(self, make: Callable[[torch.Tensor], torch.Tensor]) -> None:
        super().__init__()
        self.make = make

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.make(x)


@pytest.mark.parametrize(
    "make",
    [
        lambda x: torch.arange(x.shape[1]),
        lambda x: torch.zeros(x.size(0), x.size(1)),
        lambda x: torch.ones((x.shape[0], 1), dtype=x.dtype),
        lambda x: torch.full((x.shape[1],), 3.0, device=x.device),
        lambda x: torch.linspace(0, 1, x.shape[1]),
    ],
)
def test_sizes_are_those_of_the_call(make: Callable[[torch.Tensor], torch.Tensor]) -> None:
    model = Making(make).eval()
    fused = assemble(program_of(model))
    for x in (noise(2, 3), noise(4, 5)):
        assert torch.equal(fused(x), model(x))


def test_a_fixed_size_stays_a_constant() -> None:
    graph = program_of(Making(lambda x: torch.ones(3)).eval()).graph
    assert [node.op for node in graph.nodes] == [
        "placeholder", "get_attr", "call_function", "output"
    ]  # fmt: skip
    assert isinstance(torch.ones(2), torch.Tensor)


def test_the_functions_are_as_they_were_afterwards() -> None:
    before = torch.arange
    program_of(Making(lambda x: torch.arange(x.shape[1])).eval())
    assert torch.arange is before
    assert not isinstance(torch.arange(3), fx.Proxy)
