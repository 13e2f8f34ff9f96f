"""What follows from a graph is kept until the graph has changed."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from bnfuse.graph import Program
from bnfuse.graph.findings import FOUND
from bnfuse.ops import read_call


@pytest.mark.parametrize("name", FOUND)
def test_kept_until_the_graph_changes(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    program = Program(model, fx.symbolic_trace(model).graph)
    first = getattr(program, name)
    assert getattr(program, name) is first
    program.refresh()
    assert name not in vars(program)
    getattr(program, name)


def test_shapes_are_found_once_where_batches_are_proven() -> None:
    for layers, is_proven in (((nn.BatchNorm2d(4),), True), ((nn.ReLU(),), False)):
        model = nn.Sequential(nn.Conv2d(3, 4, 1), *layers)
        program = Program(model, fx.symbolic_trace(model).graph)
        assert (program.batched_shapes is program.shapes) == is_proven
        conv = next(node for node in program.graph.nodes if node.op == "call_module")
        assert program.batched_shapes.rank(conv) == 4
        assert program.shapes.rank(conv) == (4 if is_proven else None)


def test_calls_are_remembered_until_something_is_edited() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    program = Program(model, fx.symbolic_trace(model).graph)
    conv = next(node for node in program.graph.nodes if node.op == "call_module")
    assert read_call(program, conv) is not read_call(program, conv)
    with program.reading():
        first = read_call(program, conv)
        assert read_call(program, conv) is first
        with program.editing():
            assert read_call(program, conv) is not read_call(program, conv)
            program.own_module(conv).weight = nn.Parameter(torch.ones(4, 3, 1, 1))
        second = read_call(program, conv)
        assert first is not None
        assert second is not None
        assert second.weight is not first.weight
    assert read_call(program, conv) is not second
    assert program.is_edited
    program.refresh()
    assert not program.is_edited
