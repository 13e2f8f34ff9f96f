"""What follows from a graph is kept until the graph has changed."""

from __future__ import annotations

import pytest
from torch import fx, nn

from bnfuse.graph import Program
from bnfuse.graph.findings import FOUND


@pytest.mark.parametrize("name", FOUND)
def test_kept_until_the_graph_changes(name: str) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU())
    program = Program(model, fx.symbolic_trace(model).graph)
    first = getattr(program, name)
    assert getattr(program, name) is first
    program.refresh()
    assert name not in vars(program)
    getattr(program, name)
