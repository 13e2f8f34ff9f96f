"""Small models around one operation: a batch norm before or behind it, convolutions at the ends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

import bnfuse
from bnfuse.graph.clamp import ChannelClamp
from tests.support import noise, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.report import Report

Run = "Callable[[Any, Tensor], Any]"


class Model(nn.Module):
    """Layers by name and a forward that calls them."""

    def __init__(self, run: Callable[[Any, Tensor], Any], **layers: nn.Module | Tensor) -> None:
        super().__init__()
        self.run = run
        for name, layer in layers.items():
            value = _held(layer) if isinstance(layer, torch.Tensor) else layer
            setattr(self, name, value)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


def named(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """Call a function with names that its stubs do not know, such as ``axis``."""
    return function(*args, **kwargs)


def _held(tensor: Tensor) -> Tensor:
    """Return a tensor as a model holds it: whole numbers take no part in training."""
    is_trained = tensor.is_floating_point() and not isinstance(tensor, nn.Buffer)
    return nn.Parameter(tensor) if is_trained else nn.Buffer(tensor)


def above(run: Callable[[Any, Tensor], Any]) -> Model:
    """Return a model with convolutions ``a`` and ``b``, a constant ``c`` and a batch norm on top.

    They have 4 channels; the convolutions read 3.
    """
    return ready(
        Model(
            run,
            a=nn.Conv2d(3, 4, 1),
            b=nn.Conv2d(3, 4, 1),
            c=torch.zeros(4, 1, 1),
            norm=nn.BatchNorm2d(4),
        )
    )


def below(run: Callable[[Any, Tensor], Any], channels: int = 4) -> Model:
    """Return a model with a batch norm on 4 channels, a constant, and layers that read it."""
    return ready(
        Model(
            run,
            norm=nn.BatchNorm2d(4),
            c=torch.zeros(4, 1, 1),
            head=nn.Conv2d(channels, 5, 1),
            linear=nn.Linear(channels, 5),
        )
    )


def positive(model: Model) -> Model:
    """Make all scales of the batch norms positive."""
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.weight.data.abs_()
    return model


def unshifted(model: Model) -> Model:
    """Make all shifts of the batch norms zero, and the scales positive."""
    for layer in positive(model).modules():
        if isinstance(layer, nn.BatchNorm1d | nn.BatchNorm2d):
            layer.bias.data.zero_()
            layer.get_buffer("running_mean").zero_()
    return model


def image(channels: int = 3) -> Tensor:
    """Return two images of 6 by 6."""
    return noise(2, channels, 6, 6)


def checked(model: Model, x: Tensor, bound: float = 1e-12) -> tuple[nn.Module, Report]:
    """Optimize a model, compare all outputs, and return the result with its report."""
    fused = bnfuse.optimize(model)
    with torch.no_grad():
        wanted, got = model(x.clone()), fused(x.clone())
    pairs = zip(wanted, got, strict=True) if isinstance(wanted, tuple) else [(wanted, got)]
    for one, other in pairs:
        assert one.dtype is other.dtype
        assert one.shape == other.shape
        assert relative_error(other, one) <= bound
    return fused, bnfuse.report(fused)


def folded(model: Model, x: Tensor) -> int:
    """Return how many batch norms are folded, after comparing the outputs."""
    return len(checked(model, x)[1].folded)


def settled(model: Model, x: Tensor) -> int:
    """Return what ``folded`` does, after a second time that must find nothing more."""
    fused, report = checked(model, x)
    with torch.no_grad():
        again = bnfuse.optimize(fused)
        assert operations(again) == operations(fused)
        assert relative_error(again(x.clone()), fused(x.clone())) == 0
    return len(report.folded)


def behind(run: Callable[[Any, Tensor], Any], channels: int, **layers: nn.Module | Tensor) -> Model:
    """Return a model with an operation between a convolution ``a`` onto 4 channels and a norm."""
    norm = nn.BatchNorm2d(channels)
    return ready(
        Model(lambda m, x: m.norm(run(m, m.a(x))), a=nn.Conv2d(3, 4, 1), norm=norm, **layers)
    )


def before(run: Callable[[Any, Tensor], Any], channels: int, **layers: nn.Module | Tensor) -> Model:
    """Return a model with an operation between a norm on 4 channels and a convolution."""
    norm, head = nn.BatchNorm2d(4), nn.Conv2d(channels, 5, 1)
    return ready(Model(lambda m, x: m.head(run(m, m.norm(x))), norm=norm, head=head, **layers))


def reasons(model: Model, x: Tensor) -> list[str | None]:
    """Return why batch norms are kept, after comparing the outputs."""
    return [row.reason for row in checked(model, x)[1].kept]


def operations(model: nn.Module) -> list[str]:
    """Return what the graph of an optimized model calls, in order, by name."""
    assert isinstance(model, torch.fx.GraphModule)
    called = [node for node in model.graph.nodes if node.op.startswith("call_")]
    return [str(getattr(node.target, "__name__", node.target)) for node in called]


def preactivated(between: Callable[[Any, Tensor], Tensor], **layers: nn.Module) -> Model:
    """Return a model whose batch norm stands between a concatenation and an activation."""
    layers = {"head": nn.Conv2d(8, 5, 1), "linear": nn.Linear(8, 3), "act": nn.ReLU()} | layers

    def run(m: Any, x: Tensor) -> Tensor:
        value = torch.cat([x.sigmoid(), x], 1)
        return m.head(between(m, m.norm(value)))

    return ready(Model(run, norm=nn.BatchNorm2d(8), **layers))


def clamps(model: nn.Module) -> list[ChannelClamp]:
    return [module for module in model.modules() if isinstance(module, ChannelClamp)]
