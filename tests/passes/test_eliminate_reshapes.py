"""Removing reshapes that undo others: fires, declines, numbers, graph, guards."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from tests.support import noise, optimized_checked, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

X = noise(2, 5, 6)


class Net(nn.Module):
    """A linear layer, a convolution and a batch norm, and a forward to be replaced."""

    run: Callable[[Net, torch.Tensor], Any]

    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm, self.conv = nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Conv1d(5, 5, 1)

    def forward(self, x: torch.Tensor) -> Any:
        return type(self).run(self, x)


def net(run: Callable[[Net, torch.Tensor], Any]) -> Net:
    """Return the module with a forward of its own."""
    return ready(type("Net", (Net,), {"run": staticmethod(run)})())


def calls(model: nn.Module) -> list[str]:
    """Return what the graph of an optimized model calls."""
    assert isinstance(model, torch.fx.GraphModule)
    ops = ("call_function", "call_method", "call_module")
    names = (getattr(n.target, "__name__", n.target) for n in model.graph.nodes if n.op in ops)
    return [str(name) for name in names]


def flattened_norm(m: Net, x: torch.Tensor) -> torch.Tensor:
    y = m.linear(x)
    return m.norm(y.flatten(0, 1)).reshape_as(y).relu()


def there_and_back(m: Net, x: torch.Tensor) -> torch.Tensor:
    return m.linear(x).unsqueeze(1).flatten(1, 2).relu()


def to_its_own_shape(m: Net, x: torch.Tensor) -> torch.Tensor:
    y = m.linear(x)
    return y.reshape(y.shape).relu()


def to_its_own_size(m: Net, x: torch.Tensor) -> torch.Tensor:
    y = m.linear(x)
    return y.flatten(0, 1).view(y.size()).relu()


def function_to_its_own_shape(m: Net, x: torch.Tensor) -> torch.Tensor:
    y = m.linear(x)
    return torch.reshape(y, y.shape).relu()


def function_to_the_shape_of_another(m: Net, x: torch.Tensor) -> torch.Tensor:
    y = m.linear(x)
    return torch.reshape(y.flatten(0, 1), y.shape).relu()


@pytest.mark.parametrize(
    "run",
    [
        flattened_norm,
        to_its_own_shape,
        to_its_own_size,
        function_to_its_own_shape,
        function_to_the_shape_of_another,
    ],
)
def test_fires(run: Callable[[Net, torch.Tensor], Any]) -> None:
    model = net(run)
    optimized_checked(model, X)
    left = [name for name in calls(bnfuse.optimize(model)) if name != "assume_rank"]
    assert left == ["linear", "relu"]


def test_fires_on_proven_sizes() -> None:
    model = net(lambda m, x: m.linear(x).view(2, 5, 4).unsqueeze(1).flatten(0, 1).relu())
    optimized_checked(model, X)
    assert calls(bnfuse.optimize(model)) == ["linear", "view", "relu"]


def test_the_graph_keeps_one_guard_and_it_still_refuses() -> None:
    fused = bnfuse.optimize(net(flattened_norm))
    assert calls(fused) == ["assume_rank", "linear", "relu"]
    with pytest.raises(bnfuse.AssumptionError, match="'norm' was folded for values with 3"):
        fused(noise(2, 5, 3, 6))


def test_a_view_of_a_linear_layers_result_may_be_taken() -> None:
    def run(m: Net, x: torch.Tensor) -> torch.Tensor:
        y = m.linear(x.transpose(0, 1))
        return m.norm(y.flatten(0, 1)).reshape_as(y).view(-1, 2)

    model = net(run)
    optimized_checked(model, X)
    left = [name for name in calls(bnfuse.optimize(model)) if name != "assume_rank"]
    assert left == ["transpose", "linear", "view"]


def written(m: Net, x: torch.Tensor) -> torch.Tensor:
    y = m.linear(x)
    z = y.flatten(0, 1).reshape_as(y)
    z.mul_(2)
    return y + z


def returned(m: Net, x: torch.Tensor) -> Any:
    y = x.transpose(1, 2)
    return y, y.flatten(0, 1).reshape_as(y)


def viewed(m: Net, x: torch.Tensor) -> Any:
    y = x.transpose(1, 2)
    return y.flatten(0, 1).reshape_as(y).view(-1, 2) * 2


def another_shape(m: Net, x: torch.Tensor) -> Any:
    y = m.linear(x)
    return y.flatten(0, 1).reshape_as(y.transpose(0, 1)) * 2


@pytest.mark.parametrize("run", [written, returned, viewed, another_shape])
def test_declines(run: Callable[[Net, torch.Tensor], Any]) -> None:
    model = net(run)
    fused = bnfuse.optimize(model)
    assert "flatten" in calls(fused)
    with torch.no_grad():
        got, wanted = fused(X), model(X)
    pairs = zip(got, wanted, strict=True) if isinstance(wanted, tuple) else [(got, wanted)]
    assert all(torch.equal(one, other) for one, other in pairs)


def test_a_copy_stays_one() -> None:
    """The second output of ``returned`` shares no memory with the first."""
    fused = bnfuse.optimize(net(returned))
    one, other = fused(X)
    one.zero_()
    assert bool((other != 0).any())


def test_a_hook_stays_on_its_value() -> None:
    flat = nn.Flatten(0, 1)
    flat.register_forward_hook(lambda m, args, out: out * 3)
    model = ready(nn.Sequential(nn.Linear(6, 4), flat, nn.Unflatten(0, (2, 5)), nn.ReLU()))
    fused = bnfuse.optimize(model)
    assert relative_error(fused(X), model(X)) <= 1e-12


def test_again_changes_nothing() -> None:
    fused = bnfuse.optimize(net(flattened_norm))
    assert calls(bnfuse.optimize(fused)) == calls(fused)
