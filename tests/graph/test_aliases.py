"""Which values an in-place operation may write."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import fx, nn

from tests.moves.support import Model
from tests.support import program_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.graph import Program


def program(run: Callable[[Any, Tensor], Any]) -> Program:
    return program_of(Model(run, norm=nn.BatchNorm2d(3), relu=nn.ReLU(inplace=True)).eval())


def node(of: Program, name: str) -> fx.Node:
    return next(node for node in of.graph.nodes if node.name == name)


WRITTEN: dict[str, Callable[[Any, Tensor], Any]] = {
    "method": lambda m, x: (y := m.norm(x), y.add_(1)),
    "out-first": lambda m, x: torch.add(y := m.norm(x), 1, out=y),
    "layer": lambda m, x: (y := m.norm(x), m.relu(y)),
    "function": lambda m, x: (y := m.norm(x), nn.functional.relu(y, inplace=True)),
    "view": lambda m, x: (y := m.norm(x), y.view(-1).add_(1)),
    "view-of-a-view": lambda m, x: (y := m.norm(x), y.view(-1)[1:].add_(1)),
    "item": lambda m, x: (y := m.norm(x), y[:, 0].mul_(2)),
    "piece": lambda m, x: (y := m.norm(x), y.chunk(3, 1)[1].mul_(2)),
    "maybe-a-view": lambda m, x: (y := m.norm(x), y.reshape(-1).mul_(2)),
    "maybe-a-copy": lambda m, x: (y := m.norm(x), y.contiguous().mul_(2)),
    "out": lambda m, x: (y := m.norm(x), torch.add(x, 1, out=y)),
    "view-before": lambda m, x: (z := x.view(-1), m.norm(x), z.mul_(2), x),
}
LEFT: dict[str, Callable[[Any, Tensor], Any]] = {
    "nothing": lambda m, x: m.norm(x) + 1,
    "new-tensor": lambda m, x: (m.norm(x) + 1).add_(1),
    "relu": lambda m, x: m.norm(x).relu().add_(1),
    "shape": lambda m, x: (y := m.norm(x), x.sigmoid().view(y.shape[0], -1)),
}


@pytest.mark.parametrize("name", WRITTEN)
def test_written(name: str) -> None:
    made = program(WRITTEN[name])
    value = node(made, "x" if name == "view-before" else "norm")
    assert value in made.written_values


@pytest.mark.parametrize("name", LEFT)
def test_left_alone(name: str) -> None:
    made = program(LEFT[name])
    assert node(made, "norm") not in made.written_values


def test_a_write_before_the_value_was_made_does_not_count() -> None:
    made = program(lambda m, x: m.norm(x.sigmoid().add_(1)))
    assert node(made, "norm") not in made.written_values
    assert node(made, "sigmoid") in made.written_values


def test_what_is_joined_is_written_together() -> None:
    made = program(lambda m, x: (m.norm(x), z := x.sigmoid(), z.add_(1)))
    norm, sigmoid = node(made, "norm"), node(made, "sigmoid")
    values = made.written_values
    assert norm not in values
    assert sigmoid in values
    values.join(norm, sigmoid)
    assert norm in values
