"""The benchmark of ``optimize`` by graph size: its models, and its figures."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx

import bnfuse
from benchmarks.scaling import as_table, growth
from benchmarks.scaling_models import MODELS


def row(operations: int, seconds: float) -> dict[str, Any]:
    made = {"model": "m", "size": operations, "operations": operations, "batch_norms": 1, "gone": 1}
    return made | {"seconds": seconds, "cpu_seconds": seconds}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_has_about_the_operations_it_was_asked_for(name: str) -> None:
    model = MODELS[name](200).eval()
    assert 160 <= len(fx.symbolic_trace(model).graph.nodes) - 2 <= 220
    x = torch.randn(2, 4, 8, 8)
    with torch.no_grad():
        assert torch.allclose(bnfuse.optimize(model)(x), model(x), rtol=1e-3, atol=1e-3)


def test_growth_is_that_of_a_doubling() -> None:
    assert growth(row(1000, 1.0), row(4000, 4.0)) == pytest.approx(2.0)
    assert growth(row(1000, 1.0), row(2000, 4.0)) == pytest.approx(4.0)


def test_growth_beyond_what_is_asked_is_told() -> None:
    for seconds, told in ((2.0, ""), (4.0, "missed")):
        table = as_table([row(1000, 1.0), row(2000, seconds)])
        assert list(table.columns[-1].cells) == ["", told]
