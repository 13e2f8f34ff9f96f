"""The graph being made: what is computed at once, and what stands in it."""

from __future__ import annotations

import torch
from torch import fx, nn

from bnfuse.importing.builder import Builder
from bnfuse.importing.sizes import Sizes


def finished(builder: Builder, result: fx.Node) -> fx.GraphModule:
    """Return a module of the graph."""
    builder.graph.output(result)
    return fx.GraphModule(builder.root, builder.graph)


def test_what_depends_on_constants_alone_is_computed_at_once() -> None:
    builder = Builder()
    found = builder.call(torch.add, torch.ones(2), 1)
    assert torch.equal(found, torch.full((2,), 2.0))
    assert torch.equal(builder.method("repeat", torch.ones(1), 2), torch.ones(2))
    assert torch.equal(builder.layer(nn.Flatten(0), "f", torch.ones(2, 1)), torch.ones(2))
    assert builder.size(torch.ones(2, 3), 1) == 3
    assert not list(builder.graph.nodes)


def test_a_constant_stands_in_the_graph_once_under_its_name() -> None:
    builder = Builder()
    x, shift = builder.graph.placeholder("x"), torch.ones(3)
    builder.name(shift, "block.0.shift")
    builder.name(shift, "another name")
    total = builder.call(torch.cat, [builder.call(torch.add, x, shift), shift])
    module = finished(builder, total)
    assert dict(module.named_buffers()).keys() == {"block.0.shift"}
    assert [node.op for node in module.graph.nodes].count("get_attr") == 1
    assert module(torch.zeros(3)).tolist() == [1.0] * 6


def test_a_constant_without_a_name_gets_one() -> None:
    builder = Builder()
    x = builder.graph.placeholder("x")
    total = builder.call(torch.add, builder.call(torch.add, x, torch.ones(1)), torch.ones(1))
    module = finished(builder, total)
    assert dict(module.named_buffers()).keys() == {"constants.constant", "constants.constant_1"}


def test_a_layer_whose_name_is_taken_gets_another() -> None:
    builder = Builder()
    x = builder.graph.placeholder("x")
    for _ in range(2):
        x = builder.layer(nn.ReLU(), "block/relu", x)
    module = finished(builder, x)
    assert [name for name, _ in module.named_modules()] == [
        "", "block", "block.relu", "block.relu_1",
    ]  # fmt: skip


def test_a_size_is_read_once() -> None:
    builder = Builder()
    x = builder.graph.placeholder("x")
    assert builder.size(x, 0) is builder.size(x, 0)
    assert builder.size(x, 0) is not builder.size(x, 1)


def test_sizes_become_a_tensor() -> None:
    builder = Builder()
    x = builder.graph.placeholder("x")
    size = builder.size(x, 0)
    found = builder.as_tensor(Sizes((size, 3)))
    assert isinstance(found, fx.Node)
    result = finished(builder, found)(torch.zeros(5, 1))
    assert result.dtype is torch.int64
    assert result.tolist() == [5, 3]
    number = builder.as_tensor(Sizes((4,), is_scalar=True))
    assert isinstance(number, torch.Tensor)
    assert torch.equal(number, torch.tensor(4))


def test_parameters_are_shared_where_the_tensor_is() -> None:
    builder, weight = Builder(), torch.ones(2)
    assert builder.parameter(weight) is builder.parameter(weight)
    assert builder.parameter(weight) is not builder.parameter(torch.ones(2))
    assert not builder.parameter(weight).requires_grad
