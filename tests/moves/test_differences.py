"""The sign of a shift that goes down through a difference."""

from __future__ import annotations

import operator

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from tests.support import noise, ready, relative_error


class Difference(nn.Module):
    def __init__(self, *, is_first: bool) -> None:
        super().__init__()
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 4)
        self.shift, self.is_first = nn.Parameter(torch.empty(6)), is_first

    def forward(self, x: Tensor) -> Tensor:
        x = self.first(x.flatten(1))
        one, other = torch.tanh(x), torch.sigmoid(x)
        taken = (one + self.shift) - other if self.is_first else one - (other + self.shift)
        made: Tensor = self.last(taken)
        return made


@pytest.mark.parametrize("is_first", [True, False])
def test_a_shift_of_either_side_of_a_difference_keeps_its_sign(is_first: bool) -> None:
    model, x = ready(Difference(is_first=is_first)), noise(3, 5)
    fused = bnfuse.optimize(model)
    assert isinstance(fused, torch.fx.GraphModule)
    assert operator.add not in [node.target for node in fused.graph.nodes]
    assert relative_error(fused(x), model(x)) < 1e-12
