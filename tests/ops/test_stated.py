"""Where a graph first states the rank of a value."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx, nn

from bnfuse.graph import Program
from tests.regions.support import Two

if TYPE_CHECKING:
    from collections.abc import Callable


def written(run: Callable[[Any, Tensor, Tensor], Tensor]) -> Two:
    """Return a forward over two values, with a convolution at hand."""
    return Two(run, conv=nn.Conv2d(3, 3, 1))


def stated(run: Callable[[Any, Tensor, Tensor], Tensor]) -> tuple[str, int] | None:
    """Return what first states the rank of what a forward returns, and which."""
    model = written(run)
    program = Program(model, fx.Tracer().trace(model))
    value = program.graph.output_node().args[0]
    assert isinstance(value, fx.Node)
    found = program.stated_ranks.first(value)
    return None if found is None else (found[0].name, found[1])


def test_the_first_assertion_of_related_values() -> None:
    def run(m: Any, x: Tensor, y: Tensor) -> Tensor:
        torch._assert(y.dim() == 2, "no relative")
        z = m.conv(x)
        torch._assert(z.ndim == 4, "the first")
        torch._assert(x.ndim == 4, "a later one")
        return z.flatten(1, 2)

    assert stated(run) == ("_assert_1", 3)


def test_what_is_behind_the_value_counts_as_well() -> None:
    def run(m: Any, x: Tensor, y: Tensor) -> Tensor:
        z = x.relu()
        torch._assert(m.conv(z).ndim == 3, "behind")
        return z

    assert stated(run) == ("_assert", 3)


def test_no_assertion_of_a_relative() -> None:
    def run(m: Any, x: Tensor, y: Tensor) -> Tensor:
        torch._assert(y.ndim == 4, "no relative")
        torch._assert(x.shape[1] == 4, "no rank")
        return m.conv(x)

    assert stated(run) is None


def test_nothing_is_stated_where_a_value_gets_another_rank_in_place() -> None:
    def run(m: Any, x: Tensor, y: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, "before")
        y.unsqueeze_(0)
        return x.relu()

    assert stated(run) is None


class Unknown(nn.Module):
    """Code that no trace looks into."""

    def forward(self, x: Tensor) -> Tensor:
        return x.unsqueeze_(0)


def test_nothing_is_stated_where_unknown_code_runs_or_a_result_is_given() -> None:
    def run(m: Any, x: Tensor, y: Tensor) -> Tensor:
        torch._assert(x.ndim == 4, "before")
        return x.relu()

    def with_out(m: Any, x: Tensor, y: Tensor) -> Tensor:
        torch.add(x, x, out=y)
        return run(m, x, y)

    assert stated(run) is not None
    assert stated(with_out) is None
    model = written(lambda m, x, y: run(m, m.get_submodule("part")(x), y))
    model.part = Unknown()

    class Leaves(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, name: str) -> bool:
            return isinstance(m, Unknown) or super().is_leaf_module(m, name)

    program = Program(model, Leaves().trace(model))
    value = program.graph.output_node().args[0]
    assert isinstance(value, fx.Node)
    assert program.stated_ranks.first(value) is None


def test_ranks_below_two_tell_nothing() -> None:
    """A mean over the axis -1 leaves a number as it is."""

    def run(m: Any, x: Tensor, y: Tensor) -> Tensor:
        torch._assert(x.mean(-1).ndim == 0, "of a number or a vector")
        return x.relu()

    assert stated(run) is None
