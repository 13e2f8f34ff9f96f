"""Models whose tensors are of other kinds than layers usually hold: nothing is lost, or guessed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

import bnfuse
from tests.conformance.snapshot import snapshot
from tests.support import noise, ready, relative_error, sequential

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = [
    pytest.mark.filterwarnings("ignore:Sparse .* support is in beta state:UserWarning"),
    pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning"),
]
X = noise(2, 3, 4, 4)
Outcome = tuple[int, list[str | None]]
FOLDED: Outcome = (1, [])
ODD: Outcome = (0, ["odd-constants"])
NORMS = ("norm.", "1.", "2.")


class Labelled(torch.Tensor):
    """Takes part in every operation."""

    @classmethod
    def __torch_function__(cls, *args: Any, **kwargs: Any) -> Any:
        return super().__torch_function__(*args, **kwargs)  # type: ignore[no-untyped-call]  # torch's


class Own(nn.Parameter):
    """Adds nothing to operations."""


class WithExtra(nn.Module):
    """A convolution and a batch norm, and a tensor used behind them."""

    def __init__(self, extra: Any, use: Callable[[torch.Tensor, Any], torch.Tensor]) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)
        self.extra, self.use = nn.Buffer(extra), use

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.use(self.norm(self.conv(x)).mean((2, 3)), self.extra)


def with_extra(extra: Any, use: Callable[[torch.Tensor, Any], torch.Tensor]) -> nn.Module:
    model = ready(WithExtra(torch.zeros(1), use))
    setattr(model, "extra", extra)  # noqa: B010 - mypy forbids the assignment
    return model


def conv_norm(**tensors: Any) -> nn.Module:
    """Return a convolution and a batch norm with some tensors replaced, by ``conv_weight`` etc."""
    model: Any = sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)).requires_grad_(False)
    for key, make in tensors.items():
        layer, _, name = key.partition("_")
        module = model[0] if layer == "conv" else model[1]
        value = make(getattr(module, name))
        if isinstance(value, torch.Tensor) and name in module._parameters:
            value = value if isinstance(value, nn.Parameter) else nn.Parameter(value.detach())
        setattr(module, name, value)
    return model


def linear_norm(convert: Callable[[torch.Tensor], torch.Tensor]) -> nn.Module:
    """Return a linear layer, its weight converted, and a batch norm behind a flatten."""
    model = sequential(nn.Flatten(), nn.Linear(48, 4), nn.BatchNorm1d(4))
    model[1].weight = nn.Parameter(convert(model.get_parameter("1.weight").detach()))
    return model


def as_constant(*, buffer: bool) -> nn.Module:
    """Return a pair whose convolution holds its weight as a buffer or a plain attribute."""
    model = sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
    weight = model.get_parameter("0.weight").detach().clone()
    del model[0].weight
    model[0].register_buffer("weight", weight) if buffer else setattr(model[0], "weight", weight)
    return model


def matmul(y: torch.Tensor, extra: torch.Tensor) -> torch.Tensor:
    return torch.mm(extra.to_dense(), y.T)


def padded(y: torch.Tensor, extra: torch.Tensor) -> torch.Tensor:
    return y + extra.to_padded_tensor(0.0).mean()


def ragged() -> list[torch.Tensor]:
    return [noise(2, 4), noise(3, 4)]


RUNNING: dict[str, tuple[Callable[[], nn.Module], Outcome]] = {
    "sparse buffer": (lambda: with_extra(noise(4, 4).to_sparse(), matmul), FOLDED),
    "csr buffer": (lambda: with_extra(noise(4, 4).to_sparse_csr(), matmul), FOLDED),
    "csc buffer": (lambda: with_extra(noise(4, 4).to_sparse_csc(), matmul), FOLDED),
    "bsr buffer": (lambda: with_extra(noise(4, 4).to_sparse_bsr(2), matmul), FOLDED),
    "nested buffer": (lambda: with_extra(torch.nested.nested_tensor(ragged()), padded), FOLDED),
    "jagged buffer": (
        lambda: with_extra(torch.nested.nested_tensor(ragged(), layout=torch.jagged), padded),
        FOLDED,
    ),
    "csr weight": (lambda: linear_norm(torch.Tensor.to_sparse_csr), ODD),
    "subclass": (lambda: conv_norm(conv_weight=lambda t: t.as_subclass(Labelled)), ODD),
    "subclass of dispatch": (lambda: conv_norm(conv_weight=lambda t: TwoTensor(t, t + 0)), ODD),
    "statistics": (lambda: conv_norm(norm_running_mean=lambda t: t.as_subclass(Labelled)), ODD),
    "own parameter": (lambda: conv_norm(conv_weight=Own), FOLDED),
    "expanded weight": (lambda: conv_norm(conv_weight=lambda t: t[:1].expand(4, 3, 1, 1)), FOLDED),
    "strided weight": (
        lambda: conv_norm(conv_weight=lambda t: t.transpose(0, 1).contiguous().transpose(0, 1)),
        FOLDED,
    ),
    "expanded statistics": (
        lambda: conv_norm(
            norm_running_mean=lambda t: t[:1].expand(4), norm_running_var=lambda t: t[:1].expand(4)
        ),
        FOLDED,
    ),
    "shared memory": (lambda: conv_norm().share_memory(), FOLDED),
    "weight in a buffer": (lambda: as_constant(buffer=True), FOLDED),
    "weight in an attribute": (lambda: as_constant(buffer=False), FOLDED),
    "tensor for eps": (lambda: conv_norm(norm_eps=lambda _: torch.tensor(1e-3)), FOLDED),
}


@pytest.mark.parametrize("example", [None, (X,)], ids=["bare", "example"])
@pytest.mark.parametrize("name", RUNNING)
def test_runs_as_before(name: str, example: tuple[torch.Tensor] | None) -> None:
    build, outcome = RUNNING[name]
    model = build()
    before = snapshot(model)
    fused = bnfuse.optimize(model, example)
    report = bnfuse.report(fused)
    assert (len(report.folded), [row.reason for row in report.kept]) == outcome
    # What is computed of an extra tensor alone is kept in its place.
    gone = (*NORMS, "extra")
    layers = {key for key in model.state_dict() if not key.startswith(gone)}
    assert layers <= set(fused.state_dict())
    with torch.no_grad():
        got, wanted = fused(X), model(X)
    assert type(got) is type(wanted)
    assert relative_error(got, wanted) <= 1e-10
    assert snapshot(model) == before
