"""What a graph proves about ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import fx, nn

from bnfuse.graph import Program
from bnfuse.ops.ranks import Ranks

if TYPE_CHECKING:
    from collections.abc import Callable


def rank_of_output(model: nn.Module) -> int | None:
    """Trace a model and return what is proven about its output."""
    program = Program(model, fx.Tracer().trace(model))
    output = list(program.graph.nodes)[-1]
    value = output.args[0]
    assert isinstance(value, fx.Node)
    return Ranks(program).of(value)


@pytest.mark.parametrize(
    ("layers", "rank"),
    [
        ((nn.Flatten(), nn.Linear(2, 2)), 2),
        ((nn.Flatten(1), nn.Linear(2, 2), nn.ReLU(), nn.BatchNorm1d(2)), 2),
        ((nn.Flatten(0),), 1),
        ((nn.Flatten(1, 2),), None),
        ((nn.BatchNorm2d(2), nn.Conv2d(2, 2, 1), nn.MaxPool2d(2)), 4),
        ((nn.BatchNorm3d(2), nn.Dropout3d()), 5),
        ((nn.BatchNorm1d(2),), None),
        ((nn.Conv2d(2, 2, 1),), None),
        ((nn.BatchNorm2d(2), nn.PixelShuffle(1)), 4),
        ((nn.BatchNorm2d(2), nn.Unflatten(1, (1, 2))), None),
    ],
    ids=str,
)
def test_by_layers(layers: tuple[nn.Module, ...], rank: int | None) -> None:
    assert rank_of_output(nn.Sequential(*layers)) == rank


class Flattening(nn.Module):
    """``torch.flatten`` with the given arguments, by function or method."""

    def __init__(self, *args: int, method: bool = False) -> None:
        super().__init__()
        self.args, self.method = args, method

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.flatten(*self.args) if self.method else torch.flatten(x, *self.args)


@pytest.mark.parametrize("method", [True, False])
@pytest.mark.parametrize(
    ("args", "rank"), [((1,), 2), ((1, -1), 2), ((), 1), ((0, 1), None), ((2,), 3), ((-2,), None)]
)
def test_by_flatten(args: tuple[int, ...], rank: int | None, method: bool) -> None:
    assert rank_of_output(Flattening(*args, method=method)) == rank


def test_a_hook_may_change_the_rank() -> None:
    model = nn.Sequential(nn.Flatten(), nn.ReLU())
    model[1].register_forward_hook(lambda _m, _a, out: out[None])
    assert rank_of_output(model) is None


@pytest.mark.parametrize("asserted", [True, False])
def test_by_the_model_s_own_assertion(asserted: bool) -> None:
    class Asserting(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = x.relu()
            test = y.dim() == 3
            if asserted:
                torch._assert(test, "three dimensions")
            return torch.relu(y)

    assert rank_of_output(Asserting()) == (3 if asserted else None)


def test_by_what_was_noted_at_capture() -> None:
    graph = fx.Graph()
    node = graph.placeholder("x")
    program = Program(nn.Module(), graph)
    assert Ranks(program).of(node) is None
    node.meta["val"] = torch.zeros(2, 3, 4)
    assert Ranks(program).of(node) == 3


SHAPES: dict[str, tuple[Callable[[Any, Any], Any], int | None]] = {
    "shape": (lambda x, y: x.view(y.shape), 3),
    "size": (lambda x, y: torch.reshape(x, y.size()), 3),
    "one size": (lambda x, y: x.view(y.size(0)), None),  # may be told from a shape by no one
    "one size of several": (lambda x, y: x.view(y.size(0), -1), 2),
    "another attribute": (lambda x, y: x.view(y.mT), None),
}


@pytest.mark.parametrize("name", SHAPES)
def test_by_the_shape_of_another_value(name: str) -> None:
    reshaped, rank = SHAPES[name]

    class Reshaping(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
            return reshaped(x, y.flatten(2)).relu()

    assert rank_of_output(Reshaping()) == rank


FALSE_RELATIONS: dict[str, Callable[[Any, Any, Any], Any]] = {
    "mean, kept or not as is computed": lambda m, x, y: x.mean(1, y.dim() == 2),
    "sum, likewise": lambda m, x, y: torch.sum(x, 1, keepdim=y.dim() == 2),
    "repetition, along a computed axis": lambda m, x, y: x.repeat_interleave(2, y.dim()),
    "rows of weights that are computed": lambda m, x, y: nn.functional.linear(x, y),
}


@pytest.mark.parametrize("name", FALSE_RELATIONS)
def test_what_a_call_may_do_either_way_is_no_relation(name: str) -> None:
    class Model(nn.Module):
        def forward(self, x: torch.Tensor, y: torch.Tensor) -> Any:
            return FALSE_RELATIONS[name](self, x.flatten(2), y)

    assert rank_of_output(Model()) is None


@pytest.mark.parametrize(("weight", "rank"), [((4,), 2), ((5, 4), 3)])
def test_one_row_of_weights_makes_one_number(weight: tuple[int, ...], rank: int) -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.ones(weight))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return nn.functional.linear(x.flatten(2), self.weight)

    assert rank_of_output(Model()) == rank


def test_an_input_may_be_an_empty_tensor_in_a_concatenation() -> None:
    """Of one axis, which ``torch.cat`` takes beside others of any rank: a cache, at first."""

    class Cached(nn.Module):
        def forward(self, past: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
            return torch.cat([past, x.flatten(1)])

    program = Program(model := Cached(), fx.Tracer().trace(model))
    past, *_, joined, _ = program.graph.nodes
    ranks = Ranks(program)
    assert (ranks.of(past), ranks.of(joined)) == (None, 2)
