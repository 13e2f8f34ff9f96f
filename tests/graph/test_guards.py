"""Guards pass what they were made for and refuse the rest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from bnfuse.errors import AssumptionError
from bnfuse.graph import assume_rank
from tests.support import noise, ready


def test_the_right_rank_passes_the_very_tensor() -> None:
    x = torch.zeros(2, 3)
    assert assume_rank(x, 2, "bn") is x


def test_another_rank_is_refused() -> None:
    with pytest.raises(AssumptionError, match=r"'bn' was folded for values with 3 dimensions"):
        assume_rank(torch.zeros(2, 3), 3, "bn")


def test_guards_vanish_under_export() -> None:
    class Guarded(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return assume_rank(x, 2, "bn").relu()

    exported = torch.export.export(Guarded(), (torch.zeros(2, 3),))
    assert "assume" not in str(exported.graph)


class NormAfterwards(nn.Module):
    """A norm that is folded for two dimensions, behind a layer that such values suit as well."""

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.head = nn.Linear(16, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)

    def forward(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(torch.flatten(x, 1)), self.head(self.norm(x.roll(1, 1))) + y


def test_a_rank_is_refused_before_anything_relies_on_it() -> None:
    fused = bnfuse.optimize(ready(NormAfterwards()))
    assert isinstance(fused, torch.fx.GraphModule)
    targets = [node.target for node in fused.graph.nodes if node.op != "placeholder"]
    assert targets[0] is assume_rank
    with pytest.raises(AssumptionError, match="'norm' was folded for values with 2 dimensions"):
        fused(noise(2, 4, 4), noise(2, 4, 2))
