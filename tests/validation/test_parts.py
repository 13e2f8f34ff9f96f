"""A reference in float64 that widens one layer at a time."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from bnfuse.validation.parts import NotByPartsError, WidenedCalls
from tests.support import noise, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


class Everything(nn.Module):
    """Layers with parameters of their own, below them, shared, and of the forward itself."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)
        self.shared = nn.Linear(4, 4)
        self.again = self.shared
        self.lstm = nn.LSTM(4, 4, batch_first=True)
        self.attention = nn.MultiheadAttention(4, 2, batch_first=True)
        self.encoder = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True)
        self.offset = nn.Parameter(torch.empty(4))
        self.calls = nn.Buffer(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        self.calls.add_(1)
        x = self.norm(self.conv(x)).flatten(2).transpose(1, 2)
        x = self.again(self.shared(x).relu()) + self.offset * self.calls
        x = self.attention(x, x, x)[0] + self.lstm(x)[0]
        return self.encoder(x)


class Applied(nn.Module):
    """A forward given as a function of a linear layer and an input."""

    def __init__(self, forward: Callable[[nn.Linear, Tensor], Tensor]) -> None:
        super().__init__()
        self.layer, self.function = nn.Linear(3, 3), forward

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer, x)


def by_parts(model: nn.Module, x: Tensor) -> Tensor:
    """Run a copy of a model by parts."""
    copied = copy.deepcopy(model)
    calls = WidenedCalls(copied)
    with torch.no_grad(), calls.watched():
        outputs: Tensor = copied(x.double())
    assert all(p.dtype is torch.float32 for p in copied.parameters())
    return outputs


def whole(model: nn.Module, x: Tensor) -> Tensor:
    """Run a float64 copy of a model."""
    with torch.no_grad():
        return copy.deepcopy(model).double()(x.double())


def test_values_are_those_of_a_whole_copy() -> None:
    model, x = ready(Everything()).float(), noise(2, 3, 6, 6)
    exact = whole(model, x)
    assert relative_error(by_parts(model, x), exact) < 1e-14  # attention has several kernels
    assert relative_error(copy.deepcopy(model)(x.float()), exact) > 1e-9


def test_buffers_go_on_from_call_to_call() -> None:
    model, x = ready(Everything()).float(), noise(2, 3, 6, 6)
    mine, theirs = copy.deepcopy(model), copy.deepcopy(model).double()
    calls = WidenedCalls(mine)
    for _ in range(2):
        with torch.no_grad(), calls.watched():
            assert relative_error(mine(x), theirs(x)) < 1e-14
    assert float(mine.calls) == 2


def test_at_most_one_layer_is_wide_at_a_time() -> None:
    model = nn.Sequential(*(nn.Linear(size, size) for size in (10, 30, 20))).eval()
    sizes = []

    def count(*_: object) -> None:
        with torch._C.DisableTorchFunction():  # counting is no reading
            sizes.append(sum(parameter.nbytes for parameter in model.parameters()))

    before = sum(parameter.nbytes for parameter in model.parameters())
    largest = sum(parameter.nbytes for parameter in model[1].parameters())
    model = nn.Sequential(model[0], Resized(30), model[1], Resized(20), model[2])
    calls = WidenedCalls(model)
    for module in model:
        module.register_forward_hook(count)
    with torch.no_grad(), calls.watched():
        model(noise(1, 10))
    assert max(sizes, default=0) <= before + largest
    assert calls.most_bytes == before + largest  # float64 takes as much again
    assert sum(parameter.nbytes for parameter in model.parameters()) == before


class Resized(nn.Module):
    def __init__(self, size: int) -> None:
        super().__init__()
        self.size = size

    def forward(self, x: Tensor) -> Tensor:
        return x.repeat(1, 3)[:, : self.size]


@pytest.mark.parametrize(
    "forward",
    [
        lambda layer, x: nn.functional.linear(x, layer.weight),
        lambda layer, x: layer(x) * (layer.bias * layer.bias),
        lambda layer, x: layer(x.to(layer.weight.dtype)),
        lambda layer, x: layer(x) + torch.stack([layer.bias, layer.bias]).sum(),
        lambda layer, x: layer(x) @ layer.weight.t(),
    ],
    ids=["functional", "product", "dtype", "stack", "method"],
)
def test_reading_weights_outside_of_their_layer_is_refused(
    forward: Callable[[nn.Linear, Tensor], Tensor],
) -> None:
    model = ready(Applied(forward)).float()
    with pytest.raises(NotByPartsError, match=r"^layer\.(weight|bias) is read outside of its"):
        by_parts(model, noise(2, 3))


def test_a_refusal_leaves_the_parameters_as_they_were() -> None:
    model = ready(Applied(lambda layer, x: layer(x) + nn.functional.linear(x, layer.weight)))
    model = model.float()
    before = {name: id(p.data.untyped_storage()) for name, p in model.named_parameters()}
    calls = WidenedCalls(model)
    with pytest.raises(NotByPartsError), torch.no_grad(), calls.watched():
        model(noise(2, 3))
    assert all(p.dtype is torch.float32 for p in model.parameters())
    assert before.keys() == dict(model.named_parameters()).keys()


@pytest.mark.parametrize(
    "forward",
    [
        lambda layer, x: layer(x.reshape(-1, layer.weight.shape[1])),
        lambda layer, x: layer(x.to(layer.weight.device)),
        lambda layer, x: layer(x) * layer.weight.size(0) + layer.weight.dim(),
    ],
    ids=["shape", "device", "size"],
)
def test_reading_sizes_is_not(forward: Callable[[nn.Linear, Tensor], Tensor]) -> None:
    model, x = ready(Applied(forward)).float(), noise(2, 3)
    assert torch.equal(by_parts(model, x), whole(model, x))


class Table(nn.Module):
    """Returns its parameter itself."""

    def __init__(self) -> None:
        super().__init__()
        self.values = nn.Parameter(torch.empty(3))

    def forward(self) -> Tensor:
        return self.values


class Reading(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.table = Table()

    def forward(self, x: Tensor) -> Tensor:
        return x * (self.table() * self.table())


def test_a_parameter_that_a_layer_returns_stays_wide() -> None:
    model, x = ready(Reading()).float(), noise(2, 3)
    assert torch.equal(by_parts(model, x), whole(model, x))
