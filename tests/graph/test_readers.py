"""Readers and writers of values."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from bnfuse.graph import Program, value_readers
from tests.support import program_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Running(nn.Module):
    """Runs a function on a tensor it owns and the input."""

    def __init__(self, run: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
        super().__init__()
        self.w = nn.Parameter(torch.ones(2, 2))
        self.run = run

    def forward(self, x: torch.Tensor) -> object:
        return self.run(self.w, x)


def program_running(run: Callable[[torch.Tensor, torch.Tensor], object]) -> Program:
    """Capture a function of a parameter and an input."""
    return program_of(Running(run))


@pytest.mark.parametrize(
    "run",
    [
        lambda w, x: w.add_(x),
        lambda w, x: w.view(-1).mul_(2),
        lambda w, x: w.data.t()[0].zero_(),
        lambda w, x: torch.add(x, 1, out=w),
        lambda w, x: w.__setitem__(0, x),
        lambda w, x: torch.relu_(w),
        lambda w, x: nn.functional.relu(w, inplace=True),
        lambda w, x: nn.functional.relu(input=w, inplace=True),
    ],
)
def test_writing_into_an_own_tensor_is_seen(
    run: Callable[[torch.Tensor, torch.Tensor], object],
) -> None:
    assert program_running(run).written == {"w"}


@pytest.mark.parametrize(
    "run",
    [
        lambda w, x: w + x,
        lambda w, x: x.add_(w),
        lambda w, x: nn.functional.relu(w),
        lambda w, x: w.__add__(x),
    ],
)
def test_reading_is_not_writing(run: Callable[[torch.Tensor, torch.Tensor], object]) -> None:
    assert program_running(run).written == frozenset()


def test_augmented_assignment_is_recorded_as_writing() -> None:
    """torch.fx turns ``w += x`` into ``w = w + x``."""

    def run(w: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
        w += x
        return w

    assert program_running(run).written == {"w"}


def test_readers_of_shape_and_dtype_do_not_count() -> None:
    program = program_running(
        lambda w, x: x.relu().to(w.dtype).view(x.shape[0], x.size(1), x.dim() - w.ndim + 1)
    )
    x = next(node for node in program.graph.nodes if node.op == "placeholder")
    assert [reader.name for reader in value_readers(x)] == ["relu"]
