"""What a forward may do with a value while it is traced, and what is refused."""

from __future__ import annotations

from collections.abc import Sequence
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


def asked_in_a_generator(x: Any) -> Any:
    return x if all(isinstance(value, torch.Tensor) for value in [x]) else x[0]


def asked_of_a_class(x: Any) -> Any:
    match x:
        case torch.Tensor():
            return x
    return x[0]


@pytest.mark.parametrize(
    "run",
    [
        asked_in_a_generator,
        asked_of_a_class,
        lambda x: x if issubclass(x.__class__, torch.Tensor) else x[0],
        lambda x: x[0] if isinstance(x, Sequence) else x,
    ],
)
def test_a_forward_that_asks_is_told(run: Callable[[Any], Any]) -> None:
    captured = capture(Running(run).eval())
    assert isinstance(captured, Capture), captured
    assert [node.op for node in captured.program.graph.nodes] == ["placeholder", "output"]


@pytest.mark.parametrize(
    "run",
    [
        lambda x: torch.pow(x, 2),
        lambda x: torch.where(x > 0, x, 0.0),
        lambda x: torch.remainder(x, 2),
        lambda x: torch.xlogy(x, 2),
        lambda x: torch.clamp(x, x, 2.0),
        lambda x: torch.zeros(x.shape[0]) + x,
    ],
)
def test_functions_in_c_take_a_proxy_for_what_it_is(run: Callable[[Any], Any]) -> None:
    """One that took it for a tensor would read memory that is none of its own."""
    captured = capture(Running(run).eval())
    assert isinstance(captured, Capture | str)


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
