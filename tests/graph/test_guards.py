"""Guards pass what they were made for and refuse the rest."""

from __future__ import annotations

import pytest
import torch

from bnfuse.errors import AssumptionError
from bnfuse.graph import assume_rank


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
