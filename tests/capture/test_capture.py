"""What cannot be captured is said, and the model comes back as it was."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.capture import capture
from tests.support import noise, ready


class Branching(nn.Module):
    """A branch on data."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norm(self.conv(x))
        return y if y.sum() > 0 else -y


class AnyArguments(nn.Module):
    def forward(self, *args: torch.Tensor) -> torch.Tensor:
        return args[0]


class OddDefault(nn.Module):
    def forward(self, x: torch.Tensor, size: tuple[int, int] = (2, 2)) -> torch.Tensor:
        return x.view(size)


@pytest.mark.parametrize(
    ("model", "obstacle"),
    [
        (Branching(), "tracing its forward raised TraceError: symbolically traced variables"),
        (AnyArguments(), "its forward takes any number of arguments (*args"),
        (OddDefault(), "the argument 'size' has a default that is no literal"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_obstacles_are_named(model: nn.Module, obstacle: str) -> None:
    captured = capture(model)
    assert captured.program is None
    assert captured.obstacle.startswith(obstacle)


def test_a_forward_replaced_on_the_instance_is_not_ignored() -> None:
    model = nn.Sequential(nn.ReLU())
    model.forward = lambda x: -x  # type: ignore[method-assign]  # as users do
    assert capture(model).obstacle == "its forward was replaced on the instance"


def test_a_model_that_is_not_captured_comes_back_equal_with_reasons() -> None:
    """pytorch#87777: one branch cost the whole model, with an exception."""
    model = ready(Branching())
    fused = bnfuse.optimize(model)
    assert type(fused) is Branching
    for seed in range(4):
        x = noise(1, 3, 4, 4, seed=seed)
        assert torch.equal(fused(x), model(x))
    (row,) = bnfuse.report(fused).kept
    assert (row.name, row.reason) == ("norm", "not-captured")
    assert "symbolically traced variables cannot be used as inputs to control flow" in row.why
