"""Folding a batch norm is declined: each reason, with its sentence."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from tests.support import noise, optimized_checked, ready, sequential

if TYPE_CHECKING:
    from collections.abc import Callable


def kept(model: nn.Module, *inputs: torch.Tensor) -> list[tuple[str, str | None, str]]:
    """Optimize, check that nothing changed, and return the kept rows."""
    return [(row.name, row.reason, row.why) for row in optimized_checked(model, *inputs).kept]


class ConvNorm(nn.Module):
    """A convolution, a batch norm, and a forward to be replaced."""

    def __init__(self, run: Callable[[ConvNorm, torch.Tensor], object]) -> None:
        super().__init__()
        self.conv, self.norm, self.run = nn.Conv2d(3, 3, 3, padding=1), nn.BatchNorm2d(3), run

    def forward(self, x: torch.Tensor) -> object:
        return self.run(self, x)


def conv_norm(run: Callable[[ConvNorm, torch.Tensor], object]) -> ConvNorm:
    """Return a ready ConvNorm."""
    model = ready(ConvNorm(run))
    assert isinstance(model, ConvNorm)
    return model


X = noise(1, 3, 5, 5)


def test_training_mode() -> None:
    """One norm left in training mode raised for the whole model (torch.fx's fuse)."""
    model = sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.BatchNorm2d(3, momentum=0.0))
    model[2].train()
    why = (
        "2 is in training mode inside a model in eval mode: "
        "it normalizes with the statistics of each batch."
    )
    fused = bnfuse.optimize(model)
    assert [(r.name, r.reason, r.why) for r in bnfuse.report(fused).kept] == [
        ("2", "training-mode", why)
    ]
    assert torch.allclose(fused(X), model(X), atol=1e-12)


def test_training_argument_of_a_function() -> None:
    model = conv_norm(
        lambda m, x: nn.functional.batch_norm(m.conv(x), None, None, m.norm.weight, training=True)
    )
    assert [row[1] for row in kept(model, X)] == ["training-mode"]


def test_batch_statistics() -> None:
    """Without running statistics a norm uses the batch's in eval mode too (pytorch PR71259)."""
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4, track_running_stats=False))
    why = "1 keeps no running statistics and uses those of each batch, in eval mode too."
    assert kept(model, X) == [("1", "batch-statistics", why)]


def test_computed_constants_of_the_norm() -> None:
    model = conv_norm(
        lambda m, x: nn.functional.batch_norm(
            m.conv(x), m.norm.running_mean, m.norm.running_var, x.mean((0, 2, 3))
        )
    )
    why = "norm reads tensors that the forward computes: weight."
    assert [row[1:] for row in kept(model, X)] == [("computed-constants", why)]


def test_computed_weight_of_the_producer() -> None:
    model = conv_norm(lambda m, x: m.norm(nn.functional.conv2d(x, m.conv.weight * x.mean())).relu())
    why = "norm reads tensors that the forward computes: weight."
    assert [row[1:] for row in kept(model, X)] == [("computed-constants", why)]


def test_written_constants_of_the_norm() -> None:
    """pytorch#121184: statistics changed in the forward."""

    def run(m: ConvNorm, x: torch.Tensor) -> torch.Tensor:
        m.norm.get_buffer("running_mean").mul_(1.0)
        return m.norm(m.conv(x))

    why = "The forward writes into tensors that norm reads: norm.running_mean."
    assert kept(conv_norm(run), X) == [("norm", "written-constants", why)]


def test_written_constants_of_the_producer_through_a_view() -> None:
    def run(m: ConvNorm, x: torch.Tensor) -> torch.Tensor:
        m.conv.weight.detach().view(-1).mul_(1.0)
        return m.norm(m.conv(x))

    assert [row[1] for row in kept(conv_norm(run), X)] == ["written-constants"]


def test_not_finite() -> None:
    model = sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
    model.get_buffer("1.running_var")[0] = -1.0
    report = bnfuse.explain(model)
    assert [row.reason for row in report.kept] == ["not-finite"]


@pytest.mark.parametrize("hooked", ["conv", "norm"])
@pytest.mark.parametrize("kind", ["forward", "pre", "replaced"])
def test_hooked(hooked: str, kind: str) -> None:
    """pytorch#69158: hooks were lost."""
    model = conv_norm(lambda m, x: m.norm(m.conv(x)))
    layer = model.get_submodule(hooked)
    if kind == "forward":
        layer.register_forward_hook(lambda _m, _a, out: out * 2)
    elif kind == "pre":
        layer.register_forward_pre_hook(lambda _m, args: (args[0] + 1,))
    else:
        layer.forward = lambda x: x * 3
    assert [row[1] for row in kept(model, X)] == ["hooked"]


def test_no_linear_producer() -> None:
    """A norm behind an activation was folded through it (mmcv)."""
    model = sequential(nn.Conv2d(3, 3, 3), nn.ReLU(), nn.BatchNorm2d(3))
    why = "What 2 normalizes comes from 1 (ReLU), which has no weight to fold into."
    assert kept(model, X) == [("2", "no-linear-producer", why)]


def test_no_linear_producer_at_the_input() -> None:
    rows = kept(sequential(nn.BatchNorm2d(3)), X)
    assert [row[1] for row in rows] == ["no-linear-producer"]
    assert "the input 'input'" in rows[0][2]


def test_several_readers() -> None:
    model = conv_norm(lambda m, x: (y := m.conv(x)) * m.norm(y))
    why = "The value that norm normalizes, made by conv, is also read by mul."
    assert kept(model, X) == [("norm", "several-readers", why)]


def test_a_reader_of_the_shape_alone_does_not_count() -> None:
    model = conv_norm(lambda m, x: m.norm(y := m.conv(x)).view(y.shape[0], y.size(1), -1))
    assert kept(model, X) == []


def test_written_between() -> None:
    """The value is changed in place between the two."""

    def run(m: ConvNorm, x: torch.Tensor) -> object:
        y = m.conv(x)
        y.add_(1.0)
        return m.norm(y)

    assert [row[1] for row in kept(conv_norm(run), X)] == ["several-readers"]


def test_overflow() -> None:
    model = sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3)).half()
    model.get_buffer("1.running_var").fill_(0.0)
    model.get_parameter("1.weight").data.fill_(6e4)
    why = "The folded weights of 0 do not fit their dtype: they are too large, or too small to be "
    why += "precise."
    report = bnfuse.explain(model)
    assert [(r.reason, r.why) for r in report.kept] == [("overflow", why)]


def test_mixed_dtype() -> None:
    model = sequential(nn.Conv2d(3, 3, 3), nn.BatchNorm2d(3))
    model[0].float()
    why = "1 and the layer before it have dtypes that do not fold: torch.float32 and torch.float64."
    report = bnfuse.explain(model)
    assert [(r.reason, r.why) for r in report.kept] == [("mixed-dtype", why)]
