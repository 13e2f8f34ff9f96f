"""New weights for one call site."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.graph import Program, assemble
from bnfuse.ops import Kind, read_call, write_weights
from tests.support import noise, program_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Linear(nn.Module):
    """A linear layer run as a function says."""

    def __init__(self, run: Callable[[Linear, torch.Tensor], object]) -> None:
        super().__init__()
        self.layer, self.run = nn.Linear(2, 2, bias=False).double(), run

    def forward(self, x: torch.Tensor) -> object:
        return self.run(self, x)


def rewritten(run: Callable[[Linear, torch.Tensor], object]) -> tuple[Program, str]:
    """Give the first linear call a new weight and bias."""
    program = program_of(Linear(run))
    calls = [read_call(program, node) for node in program.graph.nodes]
    call = next(c for c in calls if c is not None and c.kind is Kind.LINEAR)
    return program, write_weights(program, call, noise(2, 2), noise(2, seed=2))


WANTED = F.linear(noise(1, 2, seed=3), noise(2, 2), noise(2, seed=2))


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.layer(x),
        lambda m, x: F.linear(x, m.layer.weight),
        lambda m, x: F.linear(x, m.layer.weight, None),
        lambda m, x: F.linear(input=x, weight=m.layer.weight),
        lambda m, x: F.linear(x, bias=None, weight=m.layer.weight),
    ],
)
def test_every_spelling_reads_the_new_weights_under_the_old_names(
    run: Callable[[Linear, torch.Tensor], object],
) -> None:
    program, into = rewritten(run)
    fused = assemble(program)
    assert torch.equal(fused(noise(1, 2, seed=3)), WANTED)
    assert list(fused.state_dict()) == ["layer.weight", "layer.bias"]
    assert into in ("layer", "linear")


def test_a_weight_read_by_two_functions_changes_for_one() -> None:
    program, _ = rewritten(lambda m, x: (F.linear(x, m.layer.weight), F.linear(x, m.layer.weight)))
    old = program.tensor("layer.weight")
    fused = assemble(program)
    first, second = fused(noise(1, 2, seed=3))
    assert torch.equal(first, WANTED)
    assert old is not None
    assert torch.equal(second, F.linear(noise(1, 2, seed=3), old))
