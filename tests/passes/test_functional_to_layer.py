"""Calls of functions that are layers: fires, declines, numbers, graph, idempotence."""

from __future__ import annotations

import textwrap
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

import bnfuse
from bnfuse.kernels import FusedLayer
from bnfuse.passes import Applied, run_pass
from bnfuse.passes.functional_to_layer import FunctionalToLayer
from tests.support import noise, program_of, ready, relative_error


class OwnLinear(nn.Linear):
    """A layer whose forward calls the function."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        return F.linear(input, self.weight, self.bias)


class OwnConv(nn.Conv2d):
    """A layer that moves its window otherwise than its attributes say."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        return F.conv2d(input, self.weight, self.bias, 2, self.padding, (1, 1), self.groups)


class Standardized(nn.Conv2d):
    """A layer that standardizes its weight."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        weight = self.weight - self.weight.mean((1, 2, 3), keepdim=True)
        return F.conv2d(input, weight, self.bias, self.stride, self.padding)


class OwnSignal(nn.Conv1d):
    """A layer of one axis, that pads by itself."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        return F.conv1d(F.pad(input, (2, 0)), self.weight, self.bias, dilation=2)


class OwnVolume(nn.Conv3d):
    """A layer of three axes, padded by name."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        return F.conv3d(input, self.weight, None, padding="same")


IMAGE = noise(2, 4, 9, 8)
FIRES: dict[str, tuple[Any, Tensor]] = {
    "linear": (lambda: OwnLinear(4, 3), noise(2, 4)),
    "no-bias": (lambda: OwnLinear(4, 3, bias=False), noise(2, 4)),
    "conv": (lambda: OwnConv(4, 6, 3, padding=1, groups=2), IMAGE),
    "1d": (lambda: OwnSignal(4, 3, 2), noise(2, 4, 9)),
    "3d": (lambda: OwnVolume(2, 3, 3, bias=False), noise(1, 2, 5, 6, 7)),
}


def rewritten(model: nn.Module, *inputs: Tensor) -> nn.Module:
    """Run the pass twice, compare in float64, and return the module."""
    wanted = [model(x) for x in inputs]
    program = program_of(model)
    applied = run_pass(program, FunctionalToLayer()).applied
    assert all(isinstance(row, Applied) for row in applied)
    assert not run_pass(program, FunctionalToLayer()).modified
    made = torch.fx.GraphModule(program.root, program.graph)
    for x, y in zip(inputs, wanted, strict=True):
        assert relative_error(made(x), y) < 1e-14
    return made


def functions(made: nn.Module) -> list[str]:
    graph: Any = made.graph
    return [node.target.__name__ for node in graph.nodes if node.op == "call_function"]


@pytest.mark.parametrize("name", FIRES)
def test_fires(name: str) -> None:
    make, x = FIRES[name]
    model = ready(nn.Sequential(make()))
    names = list(model.state_dict())
    made = rewritten(model, x)
    assert not {"linear", "conv1d", "conv2d", "conv3d"} & {*functions(made)}
    assert list(made.state_dict()) == names
    assert type(made.get_submodule("0")) in (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)
    assert type(model[0]).__name__.startswith("Own")


def test_is_fused_with_what_follows() -> None:
    model = ready(nn.Sequential(OwnConv(4, 6, 3), nn.BatchNorm2d(6), nn.ReLU())).float()
    fused = bnfuse.optimize(model)
    (layer,) = [module for module in fused.modules() if isinstance(module, FusedLayer)]
    assert fused.get_submodule("0") is layer
    assert layer.epilogue.activation is not None
    assert relative_error(fused(IMAGE.float()), model(IMAGE.float())) < 1e-5
    assert set(fused.state_dict()) == {"0.weight", "0.bias"}


def test_a_weight_that_was_computed() -> None:
    model = ready(nn.Sequential(Standardized(4, 6, 3), nn.BatchNorm2d(6))).float()
    fused = bnfuse.optimize(model)
    assert isinstance(fused.get_submodule("0"), FusedLayer)
    assert relative_error(fused(IMAGE.float()), model(IMAGE.float())) < 1e-5
    assert set(fused.state_dict()) == {"0.weight", "0.bias"}


def test_graph() -> None:
    made = rewritten(ready(nn.Sequential(OwnLinear(4, 3), nn.ReLU())), noise(2, 4))
    graph: Any = made.graph
    found = "\n".join(f"{node.op} {node.target} {node.args}" for node in graph.nodes)
    assert found == textwrap.dedent(
        """\
        placeholder input ()
        call_module 0 (input_1,)
        call_module 1 (_0,)
        output output (_1,)"""
    )


class Raw(nn.Module):
    """A function of a matrix that is no layer's."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(3, 4))

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight)


class Twice(nn.Module):
    """A layer that is called at two places."""

    def __init__(self) -> None:
        super().__init__()
        self.one = OwnLinear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.one(self.one(x))
        return result


class ReadElsewhere(nn.Module):
    """A layer whose weight something else reads."""

    def __init__(self) -> None:
        super().__init__()
        self.one = OwnLinear(4, 4)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.one(x) + self.one.weight.sum()
        return result


class OwnTransposed(nn.ConvTranspose1d):
    """A layer that there is no fused kernel for."""

    def forward(self, input: Tensor) -> Tensor:  # type: ignore[override]  # noqa: A002 - as PyTorch names it
        return F.conv_transpose1d(input, self.weight, self.bias)


class Container(nn.Linear):
    """A layer that holds another."""

    def __init__(self) -> None:
        super().__init__(4, 3)
        self.inner = nn.ReLU()

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        result: Tensor = self.inner(F.linear(input, self.weight, self.bias))
        return result


class Computed(nn.Linear):
    """A layer whose weight comes from its input."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        return F.linear(input, self.weight * input.sum(), self.bias)


class Written(nn.Linear):
    """A layer that counts in its bias."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        self.bias.add_(1)
        return F.linear(input, self.weight, self.bias)


DECLINES: dict[str, tuple[Any, Tensor]] = {
    "raw": (Raw, noise(2, 4)),
    "twice": (Twice, noise(2, 4)),
    "read-elsewhere": (ReadElsewhere, noise(2, 4)),
    "transposed": (lambda: OwnTransposed(4, 3, 2), noise(2, 4, 5)),
    "container": (Container, noise(2, 4)),
    "computed": (lambda: Computed(4, 3), noise(2, 4)),
}


@pytest.mark.parametrize("name", DECLINES)
def test_declines(name: str) -> None:
    make, x = DECLINES[name]
    before = functions(torch.fx.symbolic_trace(ready(nn.Sequential(make()))))
    made = rewritten(ready(nn.Sequential(make())), x)
    assert functions(made) == before != []


def test_declines_what_is_written() -> None:
    model = ready(nn.Sequential(Written(4, 3)).requires_grad_(False))
    program = program_of(model)
    assert not run_pass(program, FunctionalToLayer()).modified


def test_declines_layers_with_hooks() -> None:
    model = ready(nn.Sequential(OwnLinear(4, 3)))
    program = program_of(model)
    program.module("0").register_forward_hook(lambda module, args, output: None)
    assert not run_pass(program, FunctionalToLayer()).modified
