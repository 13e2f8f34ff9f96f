"""Merging two linear operations in a row: fires, declines, numbers, graph, idempotence."""

from __future__ import annotations

import copy
import pickle
import textwrap
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from tests.support import noise, ready, relative_error, sequential

if TYPE_CHECKING:
    from collections.abc import Callable

CONV = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}


def merged(model: nn.Module, *inputs: torch.Tensor) -> int:
    """Optimize, compare in float64, and return how many of the linear layers are gone."""
    before = copy.deepcopy(model.state_dict())
    fused = bnfuse.optimize(model)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    for x in inputs:
        assert fused(x).shape == model(x).shape
        assert relative_error(fused(x), model(x)) < 1e-12
    again = bnfuse.optimize(fused)
    assert linear_calls(again) == linear_calls(fused)
    return linear_calls(model) - linear_calls(fused)


def linear_calls(model: nn.Module) -> int:
    """Return how many linear operations one call runs."""
    graph = model if isinstance(model, torch.fx.GraphModule) else torch.fx.symbolic_trace(model)
    count = 0
    for node in graph.graph.nodes:
        name = str(getattr(node.target, "__name__", node.target))
        if node.op == "call_module":
            name = type(graph.get_submodule(str(node.target))).__name__.lower()
        count += name.removeprefix("fused").startswith(("conv", "linear"))
    return count


@pytest.mark.parametrize("first", [True, False], ids="bias={}".format)
@pytest.mark.parametrize("second", [True, False], ids="bias={}".format)
def test_linear_layers(first: bool, second: bool) -> None:
    model = sequential(nn.Linear(4, 9, bias=first), nn.Linear(9, 5, bias=second))
    assert merged(model, noise(2, 4), noise(4), noise(2, 3, 4)) == 1


@pytest.mark.parametrize("dims", [1, 2, 3])
@pytest.mark.parametrize("bias", [True, False], ids="bias={}".format)
@pytest.mark.parametrize("kernels", [(1, 1), (3, 1), (1, 3)], ids=str)
def test_convolutions(dims: int, bias: bool, kernels: tuple[int, int]) -> None:
    conv = CONV[dims]
    one = conv(4, 9, kernels[0], bias=bias, dilation=2, padding=kernels[0] // 2)
    model = sequential(one, conv(9, 4, kernels[1], bias=bias, dilation=2))
    assert merged(model, noise(2, 4, *[7] * dims)) == 1


@pytest.mark.parametrize("strides", [(2, 1), (1, 2), (2, 3)], ids=str)
@pytest.mark.parametrize("kernels", [(1, 1), (3, 1), (1, 3)], ids=str)
def test_strides_multiply(strides: tuple[int, int], kernels: tuple[int, int]) -> None:
    one = nn.Conv2d(4, 40, kernels[0], strides[0], bias=False)
    two = nn.Conv2d(40, 4, kernels[1], strides[1], padding=kernels[1] // 2, bias=False)
    model = sequential(one, two)
    assert merged(model, *(noise(1, 4, size, 13) for size in range(7, 16))) == 1


def test_padding_of_the_second_takes_no_bias_of_the_first() -> None:
    conv = nn.Conv2d
    assert merged(sequential(conv(4, 9, 1), conv(9, 4, 3, padding=1)), noise(1, 4, 5, 5)) == 0
    pair = sequential(conv(4, 9, 1, bias=False), conv(9, 4, 3, padding="same"))
    assert merged(pair, noise(1, 4, 5, 5)) == 1
    padded = sequential(conv(4, 9, 1, padding=1, bias=False), conv(9, 4, 3))
    assert merged(padded, noise(1, 4, 5, 5)) == 0
    reflected = nn.Conv2d(4, 9, 3, padding=1, padding_mode="reflect")
    assert merged(sequential(reflected, conv(9, 4, 1)), noise(1, 4, 5, 5)) == 0


def test_more_work_or_groups_or_kernels_on_both_sides() -> None:
    assert merged(sequential(nn.Linear(8, 2), nn.Linear(2, 8)), noise(2, 8)) == 0
    assert merged(sequential(nn.Linear(4, 2), nn.Linear(2, 4)), noise(2, 4)) == 0  # as much
    for one, two in (
        (nn.Conv2d(4, 8, 1, groups=2), nn.Conv2d(8, 4, 1)),
        (nn.Conv2d(4, 8, 1), nn.Conv2d(8, 4, 1, groups=2)),
        (nn.Conv2d(4, 8, 3), nn.Conv2d(8, 4, 3)),
        (nn.Conv2d(4, 40, 1), nn.ConvTranspose2d(40, 4, 1)),
    ):
        assert merged(sequential(one, two), noise(1, 4, 7, 7)) == 0


class Two(nn.Module):
    """Two linear layers, and a forward to be replaced."""

    def __init__(self) -> None:
        super().__init__()
        self.one, self.two = nn.Linear(4, 9), nn.Linear(9, 4)


def two(run: Callable[[Two, torch.Tensor], torch.Tensor]) -> Two:
    """Return the module with a forward of its own."""
    return ready(type("Two", (Two,), {"forward": run})())


X = noise(3, 4)


def test_another_reader() -> None:
    assert merged(two(lambda m, x: m.two(y := m.one(x)) + y.sum()), X) == 0
    assert merged(two(lambda m, x: m.two(y := m.one(x)) * y.ndim), X) == 1


def test_hooks_between() -> None:
    for name in ("one", "two"):
        model = two(lambda m, x: m.two(m.one(x)))
        model.get_submodule(name).register_forward_hook(lambda _m, _a, out: out * 2)
        assert relative_error(bnfuse.optimize(model)(X), model(X)) == 0


def test_an_input_that_is_written_after_the_first_has_read_it() -> None:
    def run(m: Two, x: torch.Tensor) -> torch.Tensor:
        x = x * 1.5
        y = m.one(x)
        x.add_(1.0)
        return m.two(y) + x

    assert merged(two(run), X) == 0


def test_a_value_that_is_written_between() -> None:
    def run(m: Two, x: torch.Tensor) -> torch.Tensor:
        y = m.one(x)
        y.add_(x.sum())
        return m.two(y)

    assert merged(two(run), X) == 0


def test_computed_weights_stay() -> None:
    functional = nn.functional.linear
    assert merged(two(lambda m, x: m.two(functional(x, m.one.weight * x.sum()))), X) == 0
    assert merged(two(lambda m, x: m.two(functional(x, m.one.weight, m.one.bias))), X) == 1


def test_a_shared_layer_keeps_its_other_call() -> None:
    model = two(lambda m, x: m.two(m.one(x)) + m.two(torch.relu(m.one(x))))
    assert merged(model, X) == 1


def test_overflow_is_declined() -> None:
    model = sequential(nn.Linear(4, 9), nn.Linear(9, 4)).half()
    with torch.no_grad():
        model.get_parameter("0.weight").fill_(3e4)
        model.get_parameter("1.weight").fill_(3e4)
    assert linear_calls(bnfuse.optimize(model)) == 2


def test_dtypes_that_differ() -> None:
    model = sequential(nn.Linear(4, 9), nn.Linear(9, 4))
    model[0].float()
    assert linear_calls(bnfuse.optimize(model)) == 2


def test_the_graph_afterwards() -> None:
    norm = nn.BatchNorm2d(9)
    fused = bnfuse.optimize(sequential(nn.Conv2d(4, 9, 3), norm, nn.Conv2d(9, 4, 1)))
    assert isinstance(fused, torch.fx.GraphModule)
    wanted = """\
        graph():
            %input_1 : [num_users=1] = placeholder[target=input]
            %_2 : [num_users=1] = call_module[target=2](args = (%input_1,), kwargs = {})
            return _2"""
    assert str(fused.graph) == textwrap.dedent(wanted)
    layer = fused.get_submodule("2")
    assert isinstance(layer, nn.Conv2d)
    assert (layer.in_channels, layer.kernel_size) == (4, (3, 3))
    assert layer.weight.shape == (4, 4, 3, 3)


def test_later_uses() -> None:
    model = sequential(nn.Linear(4, 9), nn.BatchNorm1d(9), nn.Linear(9, 4))
    fused = bnfuse.optimize(model)
    copies = [copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))]
    copies += [torch.export.export(fused, (X,)).module(), torch.compile(fused, backend="eager")]
    assert all(relative_error(one(X), model(X)) < 1e-12 for one in copies)
    assert relative_error(fused.float()(X.float()), model(X)) < 1e-5


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("kind", ["linear", "convolution"])
def test_what_is_rounded_passes_its_check(kind: str, dtype: torch.dtype) -> None:
    made = [nn.Conv2d(3, 4, 1), nn.Conv2d(4, 4, 1)]
    model = sequential(*(made if kind == "convolution" else [nn.Linear(64, 64), nn.Linear(64, 8)]))
    fused = bnfuse.optimize(model.to(dtype))
    assert not bnfuse.report(fused).undone
    assert linear_calls(fused) == 1
