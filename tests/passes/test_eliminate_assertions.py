"""Removing assertions of ranks that an earlier one implies."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, fx, nn

import bnfuse
from bnfuse.graph import Program
from bnfuse.graph.guards import assume_rank
from bnfuse.passes import PassReport, run_pass
from bnfuse.passes.eliminate_assertions import EliminateAssertions
from tests.regions.support import Two
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable


class AssertingNorm(nn.BatchNorm2d):
    """A batch norm with activation, written as timm writes it."""

    def forward(self, x: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, f"expected 4D input (got {x.ndim}D input)")
        y = nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, False, 0.0, self.eps
        )
        return y.relu()


class Net(nn.Module):
    """Two convolutions with such norms."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(3, 4, 3), AssertingNorm(4)
        self.conv2, self.norm2 = nn.Conv2d(4, 4, 1), AssertingNorm(4)

    def forward(self, x: Tensor) -> Tensor:
        y = self.norm1(self.conv1(x))
        return self.norm2(self.conv2(y)) + y


def given(run: Callable[[Any, Tensor, Tensor], Any]) -> Two:
    """Return a forward over two values, with a convolution at hand."""
    return Two(run, conv=nn.Conv2d(3, 3, 1))


def run(model: nn.Module) -> tuple[fx.GraphModule, PassReport]:
    """Trace a model and run the pass."""
    program = Program(model, fx.Tracer().trace(model))
    result = run_pass(program, EliminateAssertions())
    return fx.GraphModule(model, program.graph), result


def assertions(module: fx.GraphModule) -> list[str]:
    """Return the names of the assertions and guards in a graph."""
    return [n.name for n in module.graph.nodes if n.target in (torch._assert, assume_rank)]


def test_fires_on_all_but_the_first() -> None:
    model = ready(Net())
    module, result = run(model)
    assert [(done.name, done.into) for done in result.applied] == [("_assert_1", None)]
    assert assertions(module) == ["_assert"]
    x = noise(2, 3, 6, 6)
    assert torch.equal(module(x), model(x))


def test_the_graph_that_is_left() -> None:
    def forward(m: Any, x: Tensor, y: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, "the input")
        z = m.conv(x).relu()
        torch._assert(z.dim() == 4, f"its rank is {z.ndim}")
        return z

    module, _ = run(given(forward))
    names = [node.name for node in module.graph.nodes]
    assert names == ["x", "y", "getattr_1", "eq", "_assert", "conv", "relu", "output"]


def test_fires_on_guards_and_on_other_ranks() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    graph.call_function(assume_rank, (x, 4, "norm"))
    y = graph.call_method("flatten", (x, 0, 1))
    graph.call_function(assume_rank, (y, 3, "another"))
    graph.output(y)
    program = Program(nn.Module(), graph)
    result = run_pass(program, EliminateAssertions())
    assert [done.site for done in result.applied] == ["assume_rank_1"]


def others(m: Any, x: Tensor, y: Tensor) -> Tensor:
    torch._assert(x.ndim == 4, "one")
    torch._assert(y.ndim == 4, "no relative")
    return m.conv(x)


def contradicts(m: Any, x: Tensor, y: Tensor) -> Tensor:
    torch._assert(x.ndim == 4, "one")
    torch._assert(m.conv(x).ndim == 3, "never")
    return x


def in_place(m: Any, x: Tensor, y: Tensor) -> Tensor:
    torch._assert(x.ndim == 4, "one")
    x.squeeze_(0)
    torch._assert(x.ndim == 4, "where nothing was squeezed")
    return x


def of_a_size(m: Any, x: Tensor, y: Tensor) -> Tensor:
    torch._assert(x.shape[1] == 3, "one")
    torch._assert(m.conv(x).shape[1] == 3, "as well")
    return x


@pytest.mark.parametrize("forward", [others, contradicts, in_place, of_a_size])
def test_leaves_what_is_not_implied(forward: Callable[[Any, Tensor, Tensor], Any]) -> None:
    module, result = run(given(forward))
    assert not result.applied
    assert not result.declined
    assert len(assertions(module)) == 2


def test_what_is_more_than_a_question_stays() -> None:
    """An input and a write that only the message of an assertion reads."""

    def forward(m: Any, x: Tensor, y: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, "the first")
        z = m.conv(x)
        torch._assert(z.ndim == 4, y.shape)
        torch._assert(z.ndim == 4, z.add_(1.0).shape)
        return z

    model, x = ready(given(forward)), noise(2, 3, 4, 4)
    module, _ = run(model)
    assert assertions(module) == ["_assert"]
    assert torch.equal(module(x, x), model(x, x))


@pytest.mark.parametrize("example", [False, True])
def test_a_call_that_the_model_refuses_is_refused(example: bool) -> None:
    model, x = ready(Net()), noise(2, 3, 6, 6)
    fused = bnfuse.optimize(model, (x,) if example else None)
    assert isinstance(fused, fx.GraphModule)
    assert len(assertions(fused)) == 1
    with torch.no_grad():
        assert torch.allclose(fused(x), model(x), rtol=1e-12, atol=1e-12)
        for called in (model, fused):
            with pytest.raises(AssertionError, match="expected 4D input"):
                called(x[0])


def test_a_second_time_changes_nothing() -> None:
    module, _ = run(ready(Net()))
    _, result = run(module)
    assert not result.modified
