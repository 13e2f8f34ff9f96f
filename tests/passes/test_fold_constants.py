"""Computing once what is made of weights alone: fires, declines, numbers, graph, later uses."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from tests.support import noise, optimized_checked, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

X = noise(2, 4, 5, 5)


class Weights(nn.Module):
    """Layers and tensors, and a forward to be replaced."""

    run: Callable[[Weights, torch.Tensor], Any]

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm, self.linear = nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Linear(5, 5)
        self.gain = nn.Parameter(torch.ones(5))
        self.scale = nn.Parameter(torch.ones(1, 4, 1, 1))
        self.register_buffer("mean", torch.zeros(5))
        self.register_buffer("variance", torch.ones(5))

    def forward(self, x: torch.Tensor) -> Any:
        return type(self).run(self, x)


def weights(run: Callable[[Weights, torch.Tensor], Any]) -> Weights:
    """Return the module with a forward of its own."""
    return ready(type("Weights", (Weights,), {"run": staticmethod(run)})())


def calls(model: nn.Module) -> list[str]:
    """Return what the graph of an optimized model calls, without what it reads and guards."""
    assert isinstance(model, torch.fx.GraphModule)
    ops = ("call_function", "call_method", "call_module")
    names = (getattr(n.target, "__name__", n.target) for n in model.graph.nodes if n.op in ops)
    return [str(name) for name in names if name not in ("assume_rank", "check_rank")]


def standardized(m: Weights, x: torch.Tensor) -> torch.Tensor:
    """A convolution with a standardized weight, spelled as a batch norm of it, and a norm."""
    flat = m.conv.weight.reshape(1, 4, -1)
    weight = F.batch_norm(flat, None, None, training=True, momentum=0.0).reshape(4, 4, 3, 3)
    return m.norm(F.conv2d(x, weight, m.conv.bias))


def test_standardized_weights_take_a_norm() -> None:
    model = weights(standardized)
    assert [row.name for row in optimized_checked(model, X).folded] == ["norm"]
    assert calls(bnfuse.optimize(model)) == ["conv2d"]


def frozen(m: Weights, x: torch.Tensor) -> torch.Tensor:
    """A batch norm with statistics that are fixed, written out."""
    scale = m.norm.weight * (m.norm.get_buffer("running_var") + 1e-5).rsqrt()
    shift = m.norm.bias - m.norm.get_buffer("running_mean") * scale
    return m.conv(x) * scale.reshape(1, -1, 1, 1) + shift.reshape(1, -1, 1, 1)


def by_hand(m: Weights, x: torch.Tensor) -> torch.Tensor:
    """Statistics with the axes of an image."""
    mean = m.norm.get_buffer("running_mean").view(1, -1, 1, 1)
    variance = m.norm.get_buffer("running_var").view(1, -1, 1, 1)
    return (m.conv(x) - mean) / torch.sqrt(variance + 1e-3) * m.scale.abs()


@pytest.mark.parametrize("run", [frozen, by_hand])
def test_norms_written_out_go_into_the_convolution(run: Any) -> None:
    model = weights(run)
    optimized_checked(model, X)
    assert calls(bnfuse.optimize(model)) == ["conv"]


def test_layer_scale_goes_into_the_layer() -> None:
    model = weights(lambda m, x: x[:, :, :3, :3] + m.conv(x) * (m.scale * 2))
    optimized_checked(model, X)
    assert calls(bnfuse.optimize(model)) == ["getitem", "conv", "add"]


@pytest.mark.parametrize("run", [standardized, frozen, by_hand])
def test_later_uses(run: Any) -> None:
    model = weights(run)
    fused = bnfuse.optimize(model)
    again = bnfuse.optimize(fused)
    assert calls(again) == calls(fused)
    copies = [copy.deepcopy(fused), pickle.loads(pickle.dumps(fused)), again]
    copies += [torch.export.export(fused, (X,)).module(), torch.compile(fused, backend="eager")]
    loaded = copy.deepcopy(fused)
    with torch.no_grad():
        for tensor in loaded.parameters():
            tensor.zero_()
    loaded.load_state_dict(fused.state_dict())
    assert all(relative_error(one(X), model(X)) < 1e-12 for one in [*copies, loaded])
    assert relative_error(copy.deepcopy(fused).float()(X.float()), model(X)) < 1e-4
    assert relative_error(fused.half()(X.half()).double(), model(X)) < 0.05


def returns_it(m: Weights, x: torch.Tensor) -> Any:
    scale = m.scale * 2
    return x * scale, scale


def returns_a_view(m: Weights, x: torch.Tensor) -> Any:
    scale = m.scale * 2
    return x * scale, scale.view(-1)


def returns_it_broadcast(m: Weights, x: torch.Tensor) -> Any:
    scale = m.scale * 2
    return x * scale, [scale.expand_as(x)]


@pytest.mark.parametrize("run", [returns_it, returns_a_view, returns_it_broadcast])
def test_what_the_caller_gets_is_made_anew(run: Any) -> None:
    model = weights(run)
    fused = bnfuse.optimize(model)
    got = fused(X[:1])[1]
    (got[0] if isinstance(got, list) else got).zero_()
    assert relative_error(fused(X)[0], model(X)[0]) < 1e-12
    assert "w" not in fused.state_dict()


def written_by_a_view(m: Weights, x: torch.Tensor) -> torch.Tensor:
    scale = m.scale * 2
    scale.view(-1).mul_(x.sum())
    return x * scale


def test_what_is_written_later_is_made_anew() -> None:
    model = weights(written_by_a_view)
    fused = bnfuse.optimize(model)
    for x in (X, -X, X):
        assert relative_error(fused(x), model(x)) < 1e-12


def written_weight(m: Weights, x: torch.Tensor) -> torch.Tensor:
    m.get_buffer("mean").add_(1.0)
    return x * (m.get_buffer("mean") + 1)


def test_a_buffer_that_the_forward_writes() -> None:
    model = weights(written_weight)
    fused = bnfuse.optimize(model)
    assert torch.equal(fused(X), model(X))
    assert torch.equal(fused(X), model(X))


def statistics_of_a_weight(m: Weights, x: torch.Tensor) -> torch.Tensor:
    mean, variance = m.get_buffer("mean"), m.get_buffer("variance")
    return F.linear(x, F.batch_norm(m.linear.weight, mean, variance, training=True))


def test_what_writes_without_saying_so_stays() -> None:
    """Running statistics of a weight are updated at every call."""
    model = weights(statistics_of_a_weight)
    fused = bnfuse.optimize(model)
    assert torch.equal(fused.get_buffer("mean"), model.get_buffer("mean"))
    fused(X), model(X)
    assert torch.equal(fused.get_buffer("mean"), model.get_buffer("mean"))
    assert model.get_buffer("mean").abs().max() > 0


def test_random_numbers_are_drawn_at_every_call() -> None:
    model = weights(lambda m, x: F.linear(x, F.dropout(m.linear.weight * 2, 0.5, True)))
    before = torch.get_rng_state()
    fused = bnfuse.optimize(model)
    assert torch.equal(before, torch.get_rng_state())
    assert not torch.equal(fused(X), fused(X))


def test_what_fails_says_so_when_it_runs() -> None:
    model = weights(lambda m, x: x * m.gain.view(7))
    fused = bnfuse.optimize(model)
    with pytest.raises(RuntimeError, match="invalid for input of size 5"):
        fused(X)


def test_what_would_be_much_larger() -> None:
    model = weights(lambda m, x: (m.gain.view(5, 1, 1) * torch.ones(5, 200, 200)).sum() + x)
    model = weights(lambda m, x: m.gain.expand(40000, 5).contiguous()[: x.shape[0]] + x[:, 0, 0])
    fused = bnfuse.optimize(model)
    assert sum(tensor.numel() for tensor in fused.parameters()) <= 5
    assert relative_error(fused(X), model(X)) == 0


@pytest.mark.parametrize(
    "convert", [lambda w: w.float(), lambda w: w.to(torch.float32), lambda w: w.type(torch.float32)]
)
def test_a_conversion_still_holds_after_half(convert: Any) -> None:
    """Norms that compute in float32 convert their weights, and so have to after ``half``."""
    model = weights(
        lambda m, x: F.layer_norm(m.linear(x).float(), (5,), convert(m.gain)).to(x.dtype)
    ).float()
    fused = bnfuse.optimize(model).half()
    wanted = model.half()(X.half())
    assert torch.equal(fused(X.half()), wanted)


def test_the_graph_afterwards() -> None:
    fused = bnfuse.optimize(weights(lambda m, x: F.silu(x) * (m.gain.abs() + 1).neg()))
    assert calls(fused) == ["silu", "mul"]
    assert [name.rpartition(".")[2] for name in fused.state_dict()] == ["neg"]
