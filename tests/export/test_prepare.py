"""What every exporter does first."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import RequestError
from bnfuse.export.options import ExportOptions
from bnfuse.export.prepare import is_optimized, prepared
from tests.support import sequential

X = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))


class OnlyTwo(nn.Module):
    """A model for two samples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, 2, 2)


def small() -> nn.Module:
    """Return a small model in float32."""
    return sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).float()


def test_model_is_optimized_and_captured() -> None:
    made = prepared(small(), None, ((X,), {}), ExportOptions())
    assert [row.into for row in made.report.folded] == ["0"]
    assert made.captured.has_open_batch
    assert made.source == "torch.nn.modules.container.Sequential"
    targets = [str(node.target) for node in made.captured.program.graph.nodes]
    assert "aten.linear.default" in targets
    assert not [target for target in targets if "batch_norm" in target]


def test_optimized_model_is_taken_as_it_is() -> None:
    optimized = bnfuse.optimize(small(), skip=("1",))
    made = prepared(optimized, optimized, ((X,), {}), ExportOptions())
    assert made.report == bnfuse.report(optimized)
    assert made.source == "Sequential"


def test_layers_are_skipped_and_converted() -> None:
    options = ExportOptions(dtype=torch.float16, skip=("1",))
    made = prepared(small(), None, ((X,), {}), options)
    assert [row.reason for row in made.report.kept] == ["skipped"]
    assert {t.dtype for t in made.captured.program.state_dict.values() if t.ndim} == {torch.float16}


def test_batch_that_the_model_fixes_stays() -> None:
    made = prepared(OnlyTwo().eval(), None, ((X,), {}), ExportOptions())
    assert not made.captured.has_open_batch
    assert prepared(small(), None, ((X,), {}), ExportOptions(False)).captured.open_axes == ({},)


def test_example_that_does_not_fit() -> None:
    with pytest.raises(RequestError, match=r"^Sequential cannot run on the example inputs \("):
        prepared(small(), None, ((X[:, :3],), {}), ExportOptions())


def test_who_was_optimized() -> None:
    assert is_optimized(bnfuse.optimize(small()))
    assert not is_optimized(small())
