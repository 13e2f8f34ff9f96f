"""Guards pass what they were made for and refuse the rest."""

from __future__ import annotations

import pytest
import torch

from bnfuse.errors import AssumptionError
from bnfuse.graph import assume_default, assume_rank


def test_the_right_rank_passes_the_very_tensor() -> None:
    x = torch.zeros(2, 3)
    assert assume_rank(x, 2, "bn") is x


def test_another_rank_is_refused() -> None:
    with pytest.raises(AssumptionError, match=r"'bn' was folded for values with 3 dimensions"):
        assume_rank(torch.zeros(2, 3), 3, "bn")


@pytest.mark.parametrize("default", [None, 2, 2.0, True, "mean"])
def test_the_default_passes(default: object) -> None:
    assume_default(default, default, "mode")


@pytest.mark.parametrize(
    ("value", "default"), [(torch.ones(2), None), (1, True), (2, 2.0), ("sum", "mean"), (None, 0)]
)
def test_another_value_is_refused(value: object, default: object) -> None:
    with pytest.raises(AssumptionError, match=f"captured with mode={default!r} and this call"):
        assume_default(value, default, "mode")


def test_guards_vanish_under_export() -> None:
    class Guarded(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return assume_rank(x, 2, "bn").relu()

    exported = torch.export.export(Guarded(), (torch.zeros(2, 3),))
    assert "assume" not in str(exported.graph)
