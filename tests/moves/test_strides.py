"""Norms whose memory layout matters to what reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from tests.support import noise, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable


class Behind(nn.Module):
    """A norm of a linear layer's transposed result, and what reads it."""

    def __init__(self, read: Callable[[Tensor], Tensor]) -> None:
        super().__init__()
        self.linear, self.norm, self.read = nn.Linear(5, 4), nn.BatchNorm1d(4), read

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.linear(x).transpose(1, 2))
        return self.read(y)


def flattened_and_written(y: Tensor) -> Tensor:
    y.flatten(1).mul_(0.5)
    return y


def written_after_it_was_flattened(y: Tensor) -> Tensor:
    flat = y.flatten(1)
    y += 1.0
    return flat


def written_in_part_after_it_was_reshaped(y: Tensor) -> Tensor:
    flat = y.reshape(-1)
    y[:, :1].mul_(2.0)
    return flat


def made_contiguous_and_written(y: Tensor) -> Tensor:
    y.contiguous().relu_()
    return y


VIEWS = {
    "view": lambda y: y.view(y.shape[0], -1),
    "unflatten": lambda y: y.flatten(1).unflatten(1, (2, -1)),
    "view-of-a-permutation": lambda y: y.transpose(1, 2).transpose(1, 2).view(2, -1),
}


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_reads_a_dense_value(name: str) -> None:
    model, x = ready(Behind(VIEWS[name])), noise(2, 6, 5)
    fused = bnfuse.optimize(model, (x,))
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(x), model(x)) < 1e-12


@pytest.mark.parametrize(
    "read",
    [
        flattened_and_written,
        made_contiguous_and_written,
        written_after_it_was_flattened,
        written_in_part_after_it_was_reshaped,
    ],
)
def test_a_write_that_would_be_lost_keeps_the_norm(read: Callable[[Tensor], Tensor]) -> None:
    model, x = ready(Behind(read)), noise(2, 6, 5)
    fused = bnfuse.optimize(model, (x,))
    assert [row.reason for row in bnfuse.report(fused).kept] == ["written-value"]
    assert relative_error(fused(x), model(x)) < 1e-12


def test_reshaped_and_read_alone_it_folds_without_a_copy() -> None:
    model, x = ready(Behind(lambda y: y.flatten(1))), noise(2, 6, 5)
    fused = bnfuse.optimize(model, (x,))
    assert isinstance(fused, torch.fx.GraphModule)
    assert "contiguous" not in [node.target for node in fused.graph.nodes]
    assert relative_error(fused(x), model(x)) < 1e-12


def test_a_write_to_the_value_itself_is_none_through_a_copy() -> None:
    model, x = ready(Behind(lambda y: y.relu_().flatten(1))), noise(2, 6, 5)
    fused = bnfuse.optimize(model, (x,))
    assert len(bnfuse.report(fused).folded) == 1
    assert relative_error(fused(x), model(x)) < 1e-12
