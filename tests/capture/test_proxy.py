"""What a forward may do with a value while it is traced, and what is refused."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bnfuse.capture import Capture, capture

if TYPE_CHECKING:
    from collections.abc import Callable


class Running(nn.Module):
    """Runs a function of its input."""

    def __init__(self, run: Callable[[Any], object]) -> None:
        super().__init__()
        self.run = run
        self.weight = nn.Parameter(torch.ones(2))

    def forward(self, x: torch.Tensor) -> object:
        return self.run(x)


def set_item(x: Any) -> Any:
    y = x * 1
    y[:, 0] = 2.0
    return y


def set_attribute(x: Any) -> Any:
    x.data = x + 1
    return x


@pytest.mark.parametrize(
    "run",
    [
        set_item,
        lambda x: x if isinstance(x, torch.Tensor) else x[0],
        lambda x: x if torch.is_tensor(x) else x[0],
        lambda x: x.view(x.shape[0], -1),
    ],
)
def test_accepted_and_right(run: Callable[[Any], object]) -> None:
    captured = capture(Running(run).eval())
    assert isinstance(captured, Capture), captured


@pytest.mark.parametrize(
    ("run", "obstacle"),
    [
        (set_attribute, "its forward sets 'data' of 'x'"),
        (lambda x: {torch.float32: x}.get(x.dtype, -x), "its forward looks 'getattr_1' up"),
        (lambda x: isinstance(x.shape, tuple), "its forward asks for the type of 'getattr_1'"),
    ],
)
def test_refused(run: Callable[[Any], object], obstacle: str) -> None:
    assert capture(Running(run).eval()) == obstacle
