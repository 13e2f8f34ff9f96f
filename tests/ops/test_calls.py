"""Every spelling of an operation reads the same."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.ops import OPERATIONS, Call, Kind, read_call
from tests.support import program_of

if TYPE_CHECKING:
    from collections.abc import Callable


class Model(nn.Module):
    """A convolution and a norm, run as a function says."""

    def __init__(self, run: Callable[[Model, torch.Tensor], object]) -> None:
        super().__init__()
        self.conv, self.norm, self.run = nn.Conv2d(2, 2, 1, bias=False), nn.BatchNorm2d(2), run

    def forward(self, x: torch.Tensor) -> object:
        return self.run(self, x)


def calls(run: Callable[[Model, torch.Tensor], object]) -> list[Call]:
    """Capture a forward and read its calls."""
    program = program_of(Model(run).eval())
    found = [read_call(program, node) for node in program.graph.nodes]
    return [call for call in found if call is not None]


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.conv(x),
        lambda m, x: m.conv(input=x),
        lambda m, x: F.conv2d(x, m.conv.weight),
        lambda m, x: F.conv2d(x, weight=m.conv.weight, bias=None, groups=1),
        lambda m, x: torch.conv2d(input=x, weight=m.conv.weight),
    ],
)
def test_convolution(run: Callable[[Model, torch.Tensor], object]) -> None:
    (call,) = calls(run)
    assert call.kind is Kind.CONVOLUTION
    assert call.input.op == "placeholder"
    assert call.owned["weight"].path == "conv.weight"
    assert call.weight.shape == (2, 2, 1, 1)
    assert call.tensor("bias") is None
    assert call.options.keys() == {"stride", "padding", "dilation", "groups", "padding_mode"}
    assert (call.options["groups"], call.options["padding_mode"]) == (1, "zeros")
    assert not call.computed


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.norm(x),
        lambda m, x: F.batch_norm(
            x, m.norm.running_mean, m.norm.running_var, m.norm.weight, m.norm.bias
        ),
        lambda m, x: torch.batch_norm(
            x,
            m.norm.weight,
            m.norm.bias,
            m.norm.running_mean,
            m.norm.running_var,
            False,
            0.1,
            1e-5,
            False,
        ),
    ],
)
def test_batch_norm(run: Callable[[Model, torch.Tensor], object]) -> None:
    (call,) = calls(run)
    assert call.kind is Kind.BATCH_NORM
    assert {name: constant.path for name, constant in call.owned.items()} == {
        name: f"norm.{name}" for name in ("running_mean", "running_var", "weight", "bias")
    }
    assert call.options == {"training": False, "eps": 1e-5}


def test_computed_arguments_are_named() -> None:
    found = calls(lambda m, x: F.conv2d(x, m.conv.weight * 2, x.mean((0, 2, 3))))
    (call,) = (call for call in found if call.kind is Kind.CONVOLUTION)
    assert call.computed == ["weight", "bias"]
    with pytest.raises(KeyError):
        _ = call.weight


def test_unknown_operations_and_subclasses_are_not_read() -> None:
    class Other(nn.Conv2d):
        """Has a forward of its own."""

        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as in torch
            return torch.cumprod(input, 1)

    model = nn.Sequential(Other(2, 2, 1), nn.RReLU(), nn.LocalResponseNorm(2))
    program = program_of(model)
    assert all(read_call(program, node) is None for node in program.graph.nodes)
    assert not any(Other in row.modules for row in OPERATIONS)


def test_a_function_is_named_by_the_layer_around_it() -> None:
    class Norm(nn.BatchNorm2d):
        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as in torch
            return F.batch_norm(input, self.running_mean, self.running_var)

    program = program_of(nn.Sequential(nn.ReLU(), Norm(2)).eval())
    found = [read_call(program, node) for node in program.graph.nodes]
    assert [call.name for call in found if call] == ["0", "1"]


def test_no_two_rows_share_a_spelling() -> None:
    spellings = [s for row in OPERATIONS for s in (*row.modules, *row.functions)]
    assert len(spellings) == len(set(spellings))


def test_a_call_is_read_once_until_its_node_changes() -> None:
    program = program_of(Model(lambda m, x: (m.conv(x) + x).relu()))
    x, conv, total, relu, _ = program.graph.nodes
    first = read_call(program, total)
    assert read_call(program, total) is first
    total.replace_input_with(x, conv)
    changed = read_call(program, total)
    assert changed is not None
    assert changed.operands == (conv, conv)
    relu.target = "sigmoid"
    other = read_call(program, relu)
    assert other is not None
    assert other.spelling == "sigmoid"


def test_a_tensor_that_takes_the_place_of_another_is_seen() -> None:
    program = program_of(Model(lambda m, x: F.conv2d(x, m.conv.weight)))
    node = next(node for node in program.graph.nodes if node.op == "call_function")
    before = read_call(program, node)
    program.own_tensor(node, "weight", "conv.weight", new := torch.ones(2, 2, 1, 1))
    after = read_call(program, node)
    assert before is not None
    assert after is not None
    assert before.weight is not after.weight
    assert torch.equal(after.weight, new)
