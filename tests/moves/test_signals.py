"""What reads signals by sample slowly is given contiguous ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.kernels.support import drawn
from tests.moves.test_formats import contiguous
from tests.passes.branches import Block

if TYPE_CHECKING:
    from collections.abc import Callable

X = drawn(2, 8, 36)

SLOW: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "maximum": lambda _, y: F.max_pool1d(y, 3, 1, 1),
    "maximum-layer": lambda m, y: m.pool(y),
    "behind-others": lambda _, y: F.max_pool1d(torch.exp(y) * 0.5 + y, 3, 1, 1),
    "norm": lambda _, y: F.group_norm(y, 4),
    "concatenation": lambda _, y: torch.cat([y, y], 1)[:, :8],
    "softmax": lambda _, y: y.softmax(-1),
    "padding": lambda _, y: F.pad(y, (1, 1)),
    "resizing": lambda _, y: F.interpolate(y, scale_factor=2.0),
    "transposed": lambda m, y: m.transposed(y),
    "copied": lambda _, y: y.contiguous(),
    "unknown": lambda _, y: torch.cummax(y, 2).values,
    "one-of-two": lambda _, y: y + F.max_pool1d(y, 3, 1, 1),
}
FAST: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "nothing": lambda _, y: y,
    "known": lambda _, y: F.silu(y) * 2.0 + y.clamp(max=3.0),
    "unknown": lambda _, y: torch.exp(torch.sin(y).pow(2)),
    "method": lambda _, y: y.sin().square(),
    "halves": lambda _, y: y[:, 2:].tanh() * y[:, :6].sigmoid() + y[:, 1:7],
    "gate": lambda _, y: F.glu(y, 1),
    "squeezed": lambda _, y: y * torch.softmax(y.mean(-1, keepdim=True), 1),
    "rows": lambda m, y: m.rows(y.transpose(1, 2)).transpose(1, 2),
    "shape": lambda _, y: y * y.shape[2],
    "off": lambda _, y: F.dropout(y, 0.5, training=False),
}
CHANNELS = {"halves": 6, "gate": 4}


def model_of(read: Callable[[Any, Tensor], Tensor], channels: int = 8) -> nn.Module:
    """Return a model that reads the result of one layer and gives that to the next."""
    return Block(
        lambda m, x: m.mean(m.b(read(m, m.a(x).relu()))),
        a=nn.Conv1d(8, 8, 3, padding=1),
        b=nn.Conv1d(channels, 4, 3),
        mean=nn.AdaptiveAvgPool1d(1),
        pool=nn.MaxPool1d(3, 1, 1),
        rows=nn.Linear(8, 8),
        transposed=nn.ConvTranspose1d(8, 8, 3),
    )


@pytest.mark.parametrize("name", SLOW)
def test_what_is_read_slowly_is_contiguous(name: str) -> None:
    assert contiguous(model_of(SLOW[name]), X) == ["a"]


@pytest.mark.parametrize("name", FAST)
def test_what_is_read_as_it_lies_is_not(name: str) -> None:
    assert contiguous(model_of(FAST[name], CHANNELS.get(name, 8)), X) == []


def test_images_stay_channels_last() -> None:
    model = Block(
        lambda m, x: m.b(F.max_pool2d(m.a(x).relu(), 2)).mean((2, 3)),
        a=nn.Conv2d(8, 8, 3),
        b=nn.Conv2d(8, 4, 1),
    )
    assert contiguous(model, drawn(2, 8, 6, 6)) == []
