"""Axis, not size: where equal sizes hide that two layers act on different axes."""

from __future__ import annotations

import re

import pytest
import torch
from torch import nn

import bnfuse
from tests.support import noise, optimized_checked, ready, relative_error, sequential


def test_linear_on_rank_3_with_equal_sizes_is_refused_not_wrong() -> None:
    """pytorch/ao#4116: BatchNorm1d over L behind a linear layer on F, with L == F."""
    model = sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
    fused = bnfuse.optimize(model)
    assert relative_error(fused(noise(3, 5)), model(noise(3, 5))) < 1e-12
    text = (
        "the batch norm '1' was folded for values with 2 dimensions and this call has 3: "
        "optimize with skip=('1',), or with example_inputs like these, to run such calls."
    )
    with pytest.raises(bnfuse.AssumptionError, match=f"^{re.escape(text)}$"):
        fused(noise(3, 7, 5))


def test_the_remedy_of_the_guard_works() -> None:
    model = sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
    fused = bnfuse.optimize(model, skip=("1",))
    assert torch.equal(fused(noise(3, 7, 5)), model(noise(3, 7, 5)))


def test_unbatched_conv1d_with_equal_sizes_is_refused_not_wrong() -> None:
    model = sequential(nn.Conv1d(3, 6, 3, padding=1), nn.BatchNorm1d(6))
    fused = bnfuse.optimize(model)
    assert relative_error(fused(noise(2, 3, 6)), model(noise(2, 3, 6))) < 1e-12
    with pytest.raises(bnfuse.AssumptionError, match="3 dimensions and this call has 2"):
        fused(noise(3, 6))


@pytest.mark.parametrize(
    "head",
    [nn.Flatten(), nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(1), nn.Dropout(), nn.ReLU())],
    ids=["flatten", "pool-flatten-dropout-relu"],
)
def test_no_guard_behind_a_flatten(head: nn.Module) -> None:
    model = sequential(nn.Conv2d(3, 6, 1), head, nn.Linear(6, 4), nn.BatchNorm1d(4))
    x = noise(2, 3, 1, 1)
    fused = bnfuse.optimize(model)
    assert isinstance(fused, torch.fx.GraphModule)
    assert "assume_rank" not in str(fused.graph)
    assert relative_error(fused(x), model(x)) < 1e-12
    assert len(bnfuse.report(fused).folded) == 1


def test_no_guard_where_the_model_asserts_the_rank_itself() -> None:
    class Asserting(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = self.conv(x)
            torch._assert(y.ndim == 4, "expected 4 dimensions")
            norm = self.norm
            return nn.functional.batch_norm(
                y, norm.running_mean, norm.running_var, norm.weight, norm.bias
            )

    model = ready(Asserting())
    assert len(optimized_checked(model, noise(1, 3, 5, 5)).folded) == 1
    fused = bnfuse.optimize(model)
    assert "assume_rank" not in str(fused.graph)
    with pytest.raises(AssertionError, match="expected 4 dimensions"):
        fused(noise(3, 5, 5))


def test_other_axis_by_the_rank_of_the_norm() -> None:
    """A linear layer on rank 4 with equal sizes before BatchNorm2d (torch.jit.freeze)."""
    model = sequential(nn.Linear(5, 5), nn.BatchNorm2d(5))
    report = optimized_checked(model, noise(2, 5, 5, 5))
    why = "1 normalizes another axis than the one 0 writes its channels on."
    assert [(r.reason, r.why) for r in report.kept] == [("other-axis", why)]


@pytest.mark.parametrize(("axes", "reasons"), [((1, 2), []), ((0, 1), ["other-axis"])])
def test_a_transpose_moves_the_axis(axes: tuple[int, int], reasons: list[str]) -> None:
    class Transposed(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.linear, self.norm = nn.Linear(4, 4), nn.BatchNorm1d(4)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.norm(self.linear(x).transpose(*axes))

    report = optimized_checked(ready(Transposed()), noise(4, 4, 4))
    assert [r.reason for r in report.kept] == reasons


def test_an_example_tells_the_axis() -> None:
    model = sequential(nn.Linear(5, 7), nn.BatchNorm1d(7))
    fused = bnfuse.optimize(model, (noise(3, 7, 5),))
    assert [row.reason for row in bnfuse.report(fused).kept] == ["other-axis"]
    assert torch.equal(fused(noise(3, 7, 5)), model(noise(3, 7, 5)))
    assert torch.equal(fused(noise(3, 5)), model(noise(3, 5)))
