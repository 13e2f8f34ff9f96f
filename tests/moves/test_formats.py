"""Results are contiguous where it could be told, channels last everywhere else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from bnfuse.kernels import FusedLayer
from tests.kernels.support import drawn
from tests.passes.branches import Block

if TYPE_CHECKING:
    from collections.abc import Callable

X = drawn(2, 8, 12, 12)


class Python(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 1e9:
            return x
        return x.view(x.shape[0], -1)


def conv() -> nn.Conv2d:
    return nn.Conv2d(8, 8, 3, padding=1)


def contiguous(model: nn.Module, *inputs: Tensor) -> list[str]:
    """Optimize, compare results and strides, and return the layers that return contiguous ones."""
    model.eval()
    fused = bnfuse.optimize(model)
    wanted, got = model(*inputs), fused(*inputs)
    assert torch.allclose(wanted, got, atol=1e-5)
    assert wanted.is_contiguous() == got.is_contiguous()
    layers = fused.named_modules()
    return [n for n, m in layers if isinstance(m, FusedLayer) and m.returns_contiguous]


def viewed(m: Any, x: Tensor) -> Tensor:
    return m.c(m.b(m.a(x)).view(2, -1))


def viewed_behind_others(m: Any, x: Tensor) -> Tensor:
    y = torch.relu(m.b(m.a(x)) * 0.5).max(dim=1).values
    return m.c(y.view(2, -1).repeat(1, 8))


def flattened(m: Any, x: Tensor) -> Tensor:
    return m.c(m.b(m.a(x)).flatten(1))


def unknown(m: Any, x: Tensor) -> Tensor:
    return m.c(m.d(m.b(m.a(x))))


@pytest.mark.parametrize(
    ("run", "wanted"),
    [(viewed, ["b"]), (viewed_behind_others, ["b"]), (flattened, []), (unknown, ["b"])],
)
def test_last_layer_before_a_view(run: Callable[[Any, Tensor], Tensor], wanted: list[str]) -> None:
    model = Block(run, a=conv(), b=conv(), c=nn.Linear(8 * 144, 4), d=Python())
    assert contiguous(model, X) == wanted


def test_layers_before_the_output() -> None:
    model = Block(lambda m, x: torch.cat([m.b(m.a(x)), m.c(x)]), a=conv(), b=conv(), c=conv())
    assert contiguous(model, X) == ["b", "c"]


def test_pooled_results_are_laid_out_alike() -> None:
    pooled = nn.Sequential(conv(), nn.AdaptiveAvgPool2d(1))
    assert contiguous(pooled, X) == []
    assert contiguous(Block(lambda m, x: m.a(x).mean((2, 3)), a=conv()), X) == []
    assert contiguous(Block(lambda m, x: m.p(m.a(x)).view(2, -1), a=conv(), p=pooled[1]), X) == []
    assert contiguous(Block(lambda m, x: m.a(x).contiguous().view(2, -1), a=conv()), X) == []


def test_strides_that_are_asked_for() -> None:
    def asked(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        return torch.exp(y * y.stride(1) * 1e-3).mean((2, 3))

    assert contiguous(Block(asked, a=conv()), X) == ["a"]


def test_volumes_keep_an_axis() -> None:
    model = Block(lambda m, x: m.a(x).mean((2, 3)).view(2, -1), a=nn.Conv3d(4, 4, 3))
    assert contiguous(model, drawn(2, 4, 9, 9, 9)) == ["a"]
