"""Models on which a rule without one of its conditions gives wrong numbers, or raises."""

from __future__ import annotations

from contextlib import suppress
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Net(nn.Module):
    """Layers by name, and a forward that is a function of them."""

    def __init__(self, call: Callable[..., Any], **layers: nn.Module | Tensor) -> None:
        super().__init__()
        self.call = call
        for name, layer in layers.items():
            if isinstance(layer, nn.Module):
                self.add_module(name, layer)
            else:
                self.register_buffer(name, layer)

    def forward(self, x: Tensor) -> Any:
        return self.call(self, x)


def piece_twice(self: Any, x: Tensor) -> Tensor:
    halves = self.c(x).chunk(2, 1)
    return self.b(halves[0]) + torch.sigmoid(halves[0])


def pieces_returned(self: Any, x: Tensor) -> Any:
    halves = self.c(x).chunk(2, 1)
    return self.b(halves[0]), halves


def broadcast_slice(self: Any, x: Tensor) -> Tensor:
    return self.b(self.c(x) + self.d(x)[:, :1])


def more_channels(self: Any, x: Tensor) -> Tensor:
    return self.d(torch.sigmoid(self.c(x)) * self.k)


def wider_after(self: Any, x: Tensor) -> Tensor:
    return self.c(x.half()) * self.k


def wider_before(self: Any, x: Tensor) -> Tensor:
    return self.c(x.half() * self.k)


def resized(self: Any, x: Tensor) -> Tensor:
    twice = F.interpolate(self.c(x), scale_factor=2, mode="linear")
    return F.interpolate(twice, size=8, mode="linear") * self.k


def viewed(self: Any, x: Tensor) -> Tensor:
    return self.c(x).view(torch.int64) * 2


def after(self: Any, x: Tensor) -> Tensor:
    return self.b(self.c(x))


def beside(self: Any, x: Tensor) -> Tensor:
    return self.c(x) + self.b(x)


def view_returned(self: Any, x: Tensor) -> Any:
    doubled = self.k * 2
    return x + doubled, doubled.view(-1)


def vector(size: int, *after: int) -> Tensor:
    return torch.linspace(0.5, 2, size).reshape(size, *after)


IMAGE = noise(2, 3, 5, 5)
HALVES = {"c": nn.Conv2d(3, 8, 1), "b": nn.BatchNorm2d(4)}
INSTANCES = nn.InstanceNorm1d(6, affine=True, track_running_stats=True)
MODELS: dict[str, tuple[nn.Module, Tensor]] = {
    "piece taken twice": (ready(Net(piece_twice, **HALVES)), IMAGE),
    "pieces returned": (ready(Net(pieces_returned, **HALVES)), IMAGE),
    "broadcast slice": (
        ready(
            Net(
                broadcast_slice,
                c=nn.Conv2d(3, 4, 1),
                d=nn.Conv2d(3, 4, 1),
                b=nn.BatchNorm2d(4),
            )
        ),
        IMAGE,
    ),
    "more channels": (
        ready(
            Net(more_channels, c=nn.Conv2d(3, 1, 1), d=nn.Conv2d(3, 5, 3), k=vector(3, 1, 1)),
        ),
        IMAGE,
    ),
    "wider after": (
        Net(wider_after, c=nn.Conv2d(3, 4, 1).half(), k=vector(4, 1, 1)).eval(),
        IMAGE,
    ),
    "wider before": (Net(wider_before, c=nn.Linear(8, 4), k=vector(8)).eval(), noise(2, 8)),
    "resized": (ready(Net(resized, c=nn.Linear(8, 8), k=vector(8))), noise(2, 3, 8)),
    "viewed": (ready(Net(viewed, c=nn.Linear(8, 8))), noise(2, 8)),
    "no batch, instance norm": (ready(Net(after, c=nn.Linear(5, 6), b=INSTANCES)), noise(6, 5)),
    "no batch, branches": (
        ready(Net(beside, c=nn.Conv1d(6, 6, 1), b=nn.BatchNorm1d(6))),
        noise(6, 6),
    ),
    "view returned": (ready(Net(view_returned, k=vector(3))), noise(2, 3)),
}


def leaves(outcome: Any) -> list[Tensor]:
    """Return copies of the tensors of a result, the second of which is then written."""
    found = torch.utils._pytree.tree_leaves(outcome)
    copies = [tensor.clone() for tensor in found]
    found[-1].detach().fill_(7)
    return copies


@pytest.mark.parametrize("name", MODELS)
def test_outputs_are_those_of_the_unfused_model(name: str) -> None:
    model, value = MODELS[name]
    fused = bnfuse.optimize(model)
    with torch.no_grad(), suppress(bnfuse.AssumptionError):  # a guard may refuse such a call
        for _ in range(2):
            wanted, got = leaves(model(value)), leaves(fused(value))
            assert [tensor.dtype for tensor in got] == [tensor.dtype for tensor in wanted]
            assert all(map(torch.allclose, got, wanted))
