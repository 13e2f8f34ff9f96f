"""Code behind a norm that can tell how its result is laid out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from tests.moves.support import Model
from tests.moves.test_formats import SIGNAL, X, conv, conv1d
from tests.passes.branches import Block
from tests.support import noise, optimized_checked, ready

if TYPE_CHECKING:
    from collections.abc import Callable


class Views(nn.Module):
    """Takes a view of what it is given, where it feels like it."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(2, -1) if x.sum() > -1e9 else x


class AlwaysViews(nn.Module):
    """Takes a view of what it is given."""

    def forward(self, x: Tensor) -> Tensor:
        return x.view(2, -1)


def by_strides(m: Any, y: Tensor) -> Tensor:
    like: Tensor = m.steps
    return like.as_strided((2, 6, 6, 6), y.stride()) + y.sum()


TELLS: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "view": lambda _, y: y.view(2, -1),
    "as-strided": lambda _, y: y.as_strided((2, 216), (216, 1)),
    "as-strided-function": lambda _, y: torch.as_strided(y, (2, 216), (216, 1)),
    "as-strided-copy": lambda _, y: torch.as_strided_copy(y, (2, 216), (216, 1)),
    "as-strided-copy-aten": lambda _, y: torch.ops.aten.as_strided_copy(y, (2, 216), (216, 1)),
    "as-strided-scatter": lambda m, y: torch.as_strided_scatter(y, m.steps, (432,), (1,)),
    "as-strided-scatter-method": lambda m, y: y.as_strided_scatter(m.steps, (432,), (1,)),
    "order": lambda _, y: y.relu() * y.dim_order()[2],
    "strides": by_strides,
    "strides-of-what-is-computed": lambda m, y: by_strides(m, y.relu()),
    "asked": lambda _, y: y.relu() * y.is_contiguous() + 1.0,
    "unflatten-layer": lambda m, y: m.unflatten(y),
    "not-captured": lambda m, y: m.views(y),
    "hooked": lambda m, y: m.hooked(y),
}


@pytest.mark.parametrize("name", TELLS)
def test_what_can_tell_is_given_what_the_norm_returned(name: str) -> None:
    """The norm folds into a convolution behind which its values are transposed."""
    hooked = AlwaysViews()
    hooked.register_forward_hook(lambda _m, _a, y: y * 2)
    model = Model(
        lambda m, x: TELLS[name](m, m.norm(m.conv(x).transpose(2, 3))),
        conv=nn.Conv2d(3, 6, 1),
        norm=nn.BatchNorm2d(6),
        steps=torch.arange(432.0),
        unflatten=nn.Unflatten(3, (2, 3)),
        views=Views(),
        hooked=hooked,
    )
    report = optimized_checked(ready(model), noise(2, 3, 6, 6))
    assert [row.into for row in report.folded] == ["conv"]


@pytest.mark.parametrize(
    "read",
    [
        lambda y: y * y.dim_order()[1],
        lambda y: torch.as_strided_copy(y, (2, 64), (64, 1)),
        lambda y: torch.ops.aten.as_strided_copy.default(y, (2, 64), (64, 1)),
        lambda y: torch.as_strided_scatter(y, torch.zeros(2, 64), (2, 64), (64, 1)),
        lambda y: y.as_strided_scatter(torch.zeros(2, 64), (2, 64), (64, 1)),
    ],
    ids=["order", "copy", "aten", "scatter", "method"],
)
@pytest.mark.parametrize("form", ["contiguous", "channels last"])
def test_the_order_in_memory_that_is_asked_for(form: str, read: Any) -> None:
    """Between two layers, of which the second hides how the first's result lay."""
    x = X.contiguous(memory_format=torch.channels_last) if form == "channels last" else X
    signal = SIGNAL.mT.contiguous().mT if form == "channels last" else SIGNAL
    for make, given in ((conv, x), (conv1d, signal)):

        def run(m: Any, x: Tensor) -> Tensor:
            y = m.a(x).relu()
            return m.b(y) + (read(y) ** 2).flatten(1)[:, :64].mean(0)[:9].max()

        model = Block(run, a=make(), b=make()).eval()
        fused = bnfuse.optimize(model)
        assert [n for n, m in fused.named_modules() if getattr(m, "is_plain", False)] == ["a"]
        with torch.no_grad():
            assert torch.allclose(model(given), fused(given), atol=1e-4)
