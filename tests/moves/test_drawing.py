"""The same seed draws the same numbers for the fused model, however its results may lie."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from bnfuse.kernels import FusedLayer
from tests.kernels.support import drawn
from tests.passes.branches import Block

if TYPE_CHECKING:
    from collections.abc import Callable

X = {1: drawn(2, 8, 36), 2: drawn(2, 8, 6, 6)}
CONVOLUTIONS = {1: nn.Conv1d, 2: nn.Conv2d}
ATEN = torch.ops.aten


def written(name: str, *args: Any) -> Callable[[Tensor], Tensor]:
    """Return what fills a tensor like its input."""
    return lambda y: y + getattr(torch.empty_like(y), name)(*args)


DRAWS: dict[str, Callable[[Tensor], Tensor]] = {
    "F.dropout": lambda y: F.dropout(y, 0.5),
    "F.dropout-by-name": lambda y: F.dropout(y, p=0.5, training=True),
    "F.dropout-in-place": lambda y: F.dropout(y, 0.5, True, True),
    "torch.dropout": lambda y: torch.dropout(y, 0.5, True),
    "torch.dropout_": lambda y: torch.dropout_(y * 1, 0.5, True),
    "aten.dropout": lambda y: ATEN.dropout.default(y, 0.5, True),
    "aten.dropout-any": lambda y: ATEN.dropout(y, 0.5, True),
    "alpha": lambda y: F.alpha_dropout(y, 0.5, True),
    "torch.alpha": lambda y: torch.alpha_dropout(y, 0.5, True),
    "torch.features": lambda y: torch.feature_dropout(y, 0.5, True),
    "alpha-features": lambda y: F.feature_alpha_dropout(y, 0.5, True),
    "rrelu": lambda y: F.rrelu(y - 1, training=True),
    "gumbel": lambda y: F.gumbel_softmax(y, dim=1),
    "rand_like": lambda y: y + torch.rand_like(y),
    "randn_like": lambda y: y + torch.randn_like(y),
    "aten.randn_like": lambda y: y + ATEN.randn_like.default(y),
    "randint_like": lambda y: y + torch.randint_like(y, 9),
    "bernoulli": lambda y: y * torch.bernoulli(torch.sigmoid(y)),
    "bernoulli-method": lambda y: y * torch.sigmoid(y).bernoulli(),
    "poisson": lambda y: torch.poisson(y.abs()),
    "normal": lambda y: torch.normal(y, 1.0),
    "bernoulli_": written("bernoulli_"),
    "normal_": written("normal_", 0.0, 1.0),
    "uniform_": written("uniform_"),
    "exponential_": written("exponential_"),
    "random_": written("random_", 9),
}


def seeded(model: nn.Module, x: Tensor) -> Tensor:
    """Return a model's result with a seed of its own."""
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(5)
        result: Tensor = model(x)
        return result


def model_of(rank: int, draw: Callable[[Tensor], Tensor]) -> nn.Module:
    """Return a model that draws between two layers."""
    make: Any = CONVOLUTIONS[rank]
    a, b = make(8, 8, 3, padding=1), make(8, 8, 3, padding=1)
    return Block(lambda m, x: m.b(draw(m.a(x).relu())), a=a, b=b).eval()


@pytest.mark.parametrize("form", ["contiguous", "channels last"])
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("name", DRAWS)
def test_the_same_numbers_are_drawn(name: str, rank: int, form: str) -> None:
    model = model_of(rank, DRAWS[name])
    fused = bnfuse.optimize(model)
    assert isinstance(fused.a, FusedLayer)
    assert fused.a.is_plain
    x = X[rank] if form == "contiguous" else X[rank].movedim(1, -1).contiguous().movedim(-1, 1)
    assert torch.allclose(seeded(model, x), seeded(fused, x), atol=1e-4)


@pytest.mark.parametrize("is_on", [True, False])
@pytest.mark.parametrize("rank", [1, 2])
@pytest.mark.parametrize("layer", [nn.Dropout, nn.AlphaDropout, nn.FeatureAlphaDropout, nn.RReLU])
def test_layers_in_training_mode_draw(
    layer: Callable[[], nn.Module], rank: int, is_on: bool
) -> None:
    make: Any = CONVOLUTIONS[rank]
    a, b = make(8, 8, 3, padding=1), make(8, 8, 3, padding=1)
    model = nn.Sequential(a, nn.ReLU(), layer(), b).eval()
    model[2].train(is_on)
    fused = bnfuse.optimize(model)
    assert [m.is_plain for m in fused.modules() if isinstance(m, FusedLayer)] == [is_on, False]
    assert torch.allclose(seeded(model, X[rank]), seeded(fused, X[rank]), atol=1e-5)


@pytest.mark.parametrize(("rank", "drop"), [(1, F.dropout1d), (2, F.dropout2d)])
def test_whole_channels_are_drawn(rank: int, drop: Callable[..., Tensor]) -> None:
    model = model_of(rank, lambda y: drop(y, 0.5))
    fused = bnfuse.optimize(model)
    assert torch.allclose(seeded(model, X[rank]), seeded(fused, X[rank]), atol=1e-4)
    assert [m.is_plain for m in fused.modules() if isinstance(m, FusedLayer)] == [True, False]


OFF: dict[str, Callable[[Tensor], Tensor]] = {
    "F.dropout": lambda y: F.dropout(y, 0.5, False),
    "F.dropout-by-name": lambda y: F.dropout(y, training=False),
    "F.alpha_dropout": lambda y: F.alpha_dropout(y, 0.5),
    "torch.dropout": lambda y: torch.dropout(y, 0.5, False),
    "rrelu": lambda y: torch.rrelu(y),
    "shape": lambda y: y + torch.rand(y.size(0), 1, 1, 1),
    "attention": lambda y: F.scaled_dot_product_attention(y, y, y),
}


@pytest.mark.parametrize("name", OFF)
def test_what_draws_nothing_for_its_input_leaves_layers_fused(name: str) -> None:
    fused = bnfuse.optimize(model_of(2, OFF[name]))
    assert [m.is_plain for m in fused.modules() if isinstance(m, FusedLayer)] == [False, False]


def test_linear_layers_stay_fused() -> None:
    """Their results are contiguous always."""
    model = nn.Sequential(nn.Linear(8, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 8)).eval()
    model[2].train()
    fused, x = bnfuse.optimize(model), drawn(4, 6, 8).transpose(0, 1)
    assert [m.is_plain for m in fused.modules() if isinstance(m, FusedLayer)] == [False, False]
    assert torch.allclose(seeded(model, x), seeded(fused, x), atol=1e-5)
