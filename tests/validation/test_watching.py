"""What the layers of a model compute, seen from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.graph.part import part_forward
from bnfuse.validation.watching import Call, layers_of, watched
from bnfuse.zoo import randomize_statistics
from tests.support import noise, sequential

if TYPE_CHECKING:
    from torch import Tensor


class Branching(nn.Module):
    """A forward no trace can follow, around a block that one can."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU(inplace=True))

    def forward(self, x: Tensor) -> Tensor:
        y = self.block(x)
        return self.block(y) if y.sum() > 0 else y


def seen(model: nn.Module, x: Tensor) -> list[tuple[str, bool]]:
    """Return what is seen in a call of a model."""
    found: list[tuple[str, bool]] = []
    with watched(model, lambda call, is_leaf, _: found.append((str(call), is_leaf))):
        model(x)
    return found


def test_calls_are_seen_in_order_with_their_number() -> None:
    model = Branching().eval()
    nn.init.constant_(model.get_parameter("block.1.weight"), 1.0)
    one = [("block.0", True), ("block.1", True), ("block.2", True), ("block", False)]
    again = [(f"{name}, call 2", is_leaf) for name, is_leaf in one]
    assert seen(model, noise(1, 3, 4, 4).float()) == one + again


def test_values_are_those_of_the_moment() -> None:
    model, found = nn.Sequential(nn.Identity(), nn.ReLU(inplace=True)), {}
    with watched(model, lambda call, _, value: found.update({call: value.clone()})):
        model(torch.tensor([-1.0, 2.0]))
    assert found[Call("0", 0)].tolist() == [-1.0, 2.0]
    assert found[Call("1", 0)].tolist() == [0.0, 2.0]


def test_nothing_is_watched_afterwards_even_after_an_error() -> None:
    model = sequential(nn.Linear(3, 3))
    with pytest.raises(RuntimeError):
        seen(model, noise(1, 4))
    assert not any(module._forward_hooks for module in model.modules())


def test_only_floating_point_tensors_are_values() -> None:
    model = nn.Sequential(nn.LSTM(2, 2))
    assert seen(model, torch.zeros(1, 2)) == []


def test_a_part_still_runs_its_graph_and_shows_the_layers_of_it() -> None:
    model = randomize_statistics(Branching()).eval()
    fused = bnfuse.optimize(model)
    forward = part_forward(fused.get_submodule("block"))
    assert forward is not None
    assert forward.optimized is not None
    names = [name for name, _ in layers_of(fused)]
    assert names[0] == "block"
    assert len(names) == len(set(names))
    found = [name for name, _ in seen(fused, noise(1, 3, 4, 4).float())]
    assert "block.0" in found
    assert "block.1" not in found  # folded: its own Python does not run
