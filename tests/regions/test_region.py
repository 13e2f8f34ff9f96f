"""Regions: what belongs to them, what they read, what is read from them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import fx, nn

from bnfuse.graph import Program
from bnfuse.regions.region import Region, is_about_sizes, other_reader, region_of, successor
from tests.regions.support import One, Two, traced

if TYPE_CHECKING:
    from collections.abc import Iterable


def names(nodes: Iterable[fx.Node]) -> list[str]:
    return [node.name for node in nodes]


def region_between(model: nn.Module, *wanted: str) -> Region:
    _, nodes = traced(model)
    return region_of(nodes[name] for name in wanted)


def test_inputs_nodes_and_outputs_in_graph_order() -> None:
    model = One(lambda m, x: m.b(m.a(x)).relu(), a=nn.Conv2d(3, 4, 1), b=nn.BatchNorm2d(4))
    region = region_between(model, "b", "a")
    assert names(region.nodes) == ["a", "b"]
    assert names(region.inputs) == ["x"]
    assert names(region.outputs) == ["b"]


def test_the_output_of_the_model_reads_like_any_other() -> None:
    model = One(lambda m, x: (m.a(x), m.b(m.a(x))), a=nn.ReLU(), b=nn.Tanh())
    region = region_between(model, "a", "a_1", "b")
    assert names(region.outputs) == ["a", "b"]


def test_what_nobody_reads_is_no_output() -> None:
    def run(m: Any, x: Any) -> Any:
        m.b(x)
        return m.a(x)

    region = region_between(One(run, a=nn.ReLU(), b=nn.Tanh()), "a", "b")
    assert names(region.nodes) == ["b", "a"]
    assert names(region.outputs) == ["a"]


def test_a_value_read_inside_and_outside_is_an_output() -> None:
    model = One(lambda m, x: (y := m.a(x)) + m.b(y), a=nn.ReLU(), b=nn.Tanh())
    assert names(region_between(model, "a", "b").outputs) == ["a", "b"]


def test_constants_become_part_of_it() -> None:
    model = One(lambda m, x: (x * m.scale) + m.shift, scale=torch.ones(1), shift=torch.ones(1))
    region = region_between(model, "mul")
    assert names(region.nodes) == ["scale", "mul"]
    assert names(region.inputs) == ["x"]


def test_sizes_become_part_of_it_with_what_is_computed_from_them() -> None:
    def run(m: Any, x: Any) -> Any:
        half = x.shape[0] // 2 * x.size(1)
        return m.a(x.exp()).reshape(half, -1)

    region = region_between(One(run, a=nn.ReLU()), "a", "reshape")
    computed = {"getattr_1", "getitem", "floordiv", "size", "mul"}
    assert set(names(region.nodes)) == computed | {"a", "reshape"}
    assert names(region.inputs) == ["x", "exp"]


def test_a_number_that_is_computed_from_elements_is_an_input() -> None:
    model = One(lambda m, x: m.a(x) * x.sum().item(), a=nn.ReLU())
    assert names(region_between(model, "a", "mul").inputs) == ["x", "item"]


def test_what_lies_between_two_operations_becomes_part() -> None:
    """A region is convex: nothing it reads depends on it."""

    def run(m: Any, x: Any) -> Any:
        one, other = torch.chunk(m.a(x), 2, 1)
        return m.b(torch.cat([one.relu(), other], 1)) + other.tanh()

    region = region_between(One(run, a=nn.Conv2d(3, 4, 1), b=nn.BatchNorm2d(4)), "a", "b")
    between = ["chunk", "getitem", "getitem_1", "relu", "cat"]
    assert names(region.nodes) == ["a", *between, "b"]
    assert names(region.inputs) == ["x"]
    assert names(region.outputs) == ["getitem_1", "b"]


def test_what_only_meets_the_region_stays_outside() -> None:
    """It reads from the region, or is read by it, and not both."""
    model = Two(lambda m, x, y: (m.b(m.a(x) + y.exp()), m.a(y)), a=nn.ReLU(), b=nn.Tanh())
    region = region_between(model, "a", "b")
    assert names(region.nodes) == ["a", "add", "b"]
    assert names(region.inputs) == ["x", "exp"]


@pytest.mark.parametrize("ask", [lambda v: v.shape, lambda v: v.dim(), lambda v: v.dtype])
def test_asking_for_metadata_makes_no_output(ask: Any) -> None:
    model = One(lambda m, x: (m.b(y := m.a(x)), ask(y)), a=nn.ReLU(), b=nn.Tanh())
    assert names(region_between(model, "a", "b").outputs) == ["b"]


def test_only_the_shape_is_asked_of_the_argument_of_reshape_as() -> None:
    model = Two(
        lambda m, x, y: (m.a(x).reshape_as(y), y.reshape_as(m.b(x))), a=nn.ReLU(), b=nn.ReLU()
    )
    region = region_between(model, "a", "b")
    assert names(region.outputs) == ["a"]


def test_values_are_about_sizes_only_all_the_way() -> None:
    def run(m: Any, x: Any) -> Any:
        return x.shape[0] + 1, x[0] + 1, x.reshape_as(x), -x.size(0), x.dim()

    _, nodes = traced(One(run))
    about = {name for name, node in nodes.items() if is_about_sizes(node)}
    assert about == {"getattr_1", "getitem", "add", "size", "neg", "dim"}


def test_a_long_computation_of_sizes_is_given_up() -> None:
    def run(m: Any, x: Any) -> Any:
        size = x.size(0)
        for _ in range(200):
            size = size + 1
        return size

    _, nodes = traced(One(run))
    assert is_about_sizes(nodes["add_9"])
    assert not is_about_sizes(nodes["add_199"])


def folded() -> tuple[Program, dict[str, fx.Node], Region]:
    """Return ``b(a(x))`` with a placeholder ``y`` beside it, and its region."""
    program, nodes = traced(
        Two(lambda m, x, y: m.b(m.a(x)).relu() + y, a=nn.Conv2d(3, 4, 1), b=nn.BatchNorm2d(4))
    )
    program.replacements.forget()
    return program, nodes, region_of([nodes["a"], nodes["b"]])


def test_successor_follows_replacements() -> None:
    program, nodes, region = folded()
    with program.graph.inserting_before(nodes["b"]):
        middle = program.graph.call_method("tanh", (nodes["a"],))
        last = program.graph.call_method("exp", (middle,))
    program.replace(nodes["b"], middle)
    program.replace(middle, last)
    last.args = (middle,)
    program.erase(nodes["b"])
    found = successor(program, region)
    assert found is not None
    assert found.nodes == (nodes["a"], middle, last)
    assert found.outputs == (last,)
    assert found.inputs == region.inputs


def test_successor_may_be_an_input_itself() -> None:
    program, nodes, region = folded()
    program.replace(nodes["b"], nodes["x"])
    found = successor(program, region)
    assert found is not None
    assert (found.nodes, found.outputs) == ((), (nodes["x"],))


def test_successor_reads_new_constants() -> None:
    program, nodes, region = folded()
    source = program.new_tensor(nodes["b"], "", torch.ones(4))
    with program.graph.inserting_before(nodes["b"]):
        product = program.graph.call_method("mul", (nodes["x"], source))
    program.replace(nodes["b"], product)
    found = successor(program, region)
    assert found is not None
    assert found.nodes == (source, product)


def test_no_successor_reads_an_input_that_was_not_read() -> None:
    program, nodes, region = folded()
    nodes["a"].args = (nodes["y"],)
    assert successor(program, region) is None


def test_no_successor_goes_on_without_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfuse.regions.region._MOST_NODES", 3)
    program, nodes, region = folded()
    value = nodes["x"]
    with program.graph.inserting_before(nodes["b"]):
        for _ in range(9):
            value = program.graph.call_method("neg", (value,))
    program.replace(nodes["b"], value)
    assert successor(program, region) is None


def test_without_nodes_there_is_no_region() -> None:
    with pytest.raises(ValueError, match="empty"):
        region_of(SimpleNamespace(nodes=()).nodes)


def test_a_constant_that_is_an_output_has_the_readers_of_what_it_stands_for() -> None:
    model = One(lambda m, x: (x + m.scale) * 2, scale=torch.ones(1))
    program, nodes = traced(model)
    before = region_of([nodes["add"]])
    program.replace(nodes["add"], program.new_tensor(nodes["add"], "", torch.ones(1)))
    now = successor(program, before)
    assert now is not None
    assert other_reader(program, before, now) is None
    assert other_reader(program, before, replace(now, outputs=())) is nodes["mul"]
