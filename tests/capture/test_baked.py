"""Weights computed once: parametrizations, weight and spectral norm."""

from __future__ import annotations

import copy
import pickle
import warnings
from typing import Any

import pytest
import torch
from torch import nn
from torch.nn.utils import parametrizations, parametrize, spectral_norm

import bnfuse
from tests.support import noise, ready, relative_error, sequential

X = noise(2, 3, 5, 5)


def weight_norm(layer: nn.Module) -> nn.Module:
    """Apply the old weight norm, which says that it is."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return nn.utils.weight_norm(layer)


NORMS: dict[str, Any] = {
    "weight norm": parametrizations.weight_norm,
    "spectral norm": parametrizations.spectral_norm,
    "orthogonal": parametrizations.orthogonal,
    "old weight norm": weight_norm,
    "old spectral norm": spectral_norm,
}


def normed(norm: Any) -> nn.Sequential:
    """A convolution with a normed weight, and a batch norm."""
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    norm(model[0])
    return model.double().eval()


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
@pytest.mark.parametrize("is_warm", [True, False], ids="called={}".format)
def test_a_norm_folds_and_the_given_model_stays(norm: Any, is_warm: bool) -> None:
    model = normed(norm)
    before = model(X) if is_warm else None
    kind, names = type(model[0]), list(model.state_dict())
    hooks = dict(model[0]._forward_pre_hooks)
    fused = bnfuse.optimize(model)
    assert [row.name for row in bnfuse.report(fused).folded] == ["1"]
    assert type(model[0]) is kind
    assert (list(model.state_dict()), model[0]._forward_pre_hooks) == (names, hooks)
    assert before is None or torch.equal(model(X), before)
    assert relative_error(fused(X), model(X)) < 1e-12
    assert type(fused.get_submodule("0")) is nn.Conv2d
    assert list(fused.state_dict()) == ["0.weight", "0.bias"]


@pytest.mark.parametrize("norm", NORMS.values(), ids=NORMS)
def test_the_result_is_a_plain_layer(norm: Any) -> None:
    model = normed(norm)
    fused = bnfuse.optimize(model)
    state = dict(fused.state_dict())  # without what torch notes beside it
    fused.load_state_dict({name: tensor.clone() for name, tensor in state.items()})
    for other in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused)), bnfuse.optimize(fused)):
        assert relative_error(other(X), model(X)) < 1e-12
    assert relative_error(fused.float()(X.float()), model(X)) < 1e-5


class CountsOnItself(nn.Module):
    """Counts in an attribute."""

    calls = 0

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return weight * 2


class CountsInABuffer(nn.Module):
    """Counts in a tensor."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        self.get_buffer("calls").add_(1)
        return weight * 2


class Prints(nn.Module):
    """Prints."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        print(end="")  # noqa: T201 - what it is about
        return weight * 2


class Draws(nn.Module):
    """Draws random numbers."""

    def forward(self, weight: torch.Tensor) -> torch.Tensor:
        return weight * torch.rand_like(weight)


@pytest.mark.parametrize("kind", [CountsOnItself, CountsInABuffer, Prints, Draws])
def test_what_does_more_than_compute_stays(kind: type[nn.Module]) -> None:
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    parametrize.register_parametrization(model[0], "weight", kind(), unsafe=True)
    model.double().eval()
    inner = model.get_submodule("0.parametrizations.weight.0")
    calls = int(getattr(inner, "calls", 0))
    fused = bnfuse.optimize(model)
    own = fused.get_submodule("0.parametrizations.weight.0")
    assert int(getattr(inner, "calls", 0)) == int(getattr(own, "calls", 0)) == calls
    fused(X)
    assert int(getattr(own, "calls", 0)) == calls + (kind in (CountsOnItself, CountsInABuffer))
    assert not bnfuse.report(fused).folded


def test_in_training_mode_it_stays() -> None:
    model = normed(parametrizations.spectral_norm)
    model[0].train()
    fused = bnfuse.optimize(model)
    assert "0.parametrizations.weight.original" in fused.state_dict()


def test_a_shared_layer() -> None:
    conv = nn.Conv2d(3, 3, 1)
    model = ready(nn.Sequential(conv, nn.BatchNorm2d(3), nn.ReLU(), conv, nn.BatchNorm2d(3)))
    parametrizations.weight_norm(conv)
    model.double()
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 2
    assert relative_error(fused(X), model(X)) < 1e-12
    assert parametrize.is_parametrized(conv)
