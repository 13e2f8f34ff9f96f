"""A part keeps its own Python beside its graph."""

from __future__ import annotations

import copy
import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.graph.part import PartForward, part_forward, registered_parts
from tests.support import noise, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

X = noise(2, 3, 4, 4)


class Loop(nn.Module):
    """Cannot be captured as a whole."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y: torch.Tensor = self.block(x)
        return y if y.sum() > 0 else y * 2


def block_forward(model: nn.Module) -> PartForward:
    """Return the forward of the model's part."""
    forward = part_forward(model.get_submodule("block"))
    assert forward is not None
    return forward


@pytest.fixture
def pair() -> tuple[nn.Module, nn.Module]:
    model = ready(Loop())
    return model, bnfuse.optimize(model)


def test_layers_weights_and_names_are_the_original_s(pair: tuple[nn.Module, nn.Module]) -> None:
    model, fused = pair
    assert str(fused) == str(model)
    assert fused.state_dict().keys() == model.state_dict().keys()
    assert sum(p.numel() for p in fused.parameters()) == sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_the_graph_travels(
    pair: tuple[nn.Module, nn.Module], way: Callable[[nn.Module], nn.Module]
) -> None:
    model, fused = pair
    travelled = way(fused)
    forward = block_forward(travelled)
    assert forward.part is travelled.get_submodule("block")
    assert forward.optimized is not block_forward(fused).optimized
    assert relative_error(travelled(X), model(X)) < 1e-12


def test_the_graph_is_cast_with_the_part(pair: tuple[nn.Module, nn.Module]) -> None:
    model, fused = pair
    fused.float()
    graph = block_forward(fused).optimized
    assert graph is not None
    assert {p.dtype for p in graph.parameters()} == {torch.float32}
    assert relative_error(fused(X.float()).double(), model(X)) < 1e-5


def test_other_weights_give_the_graph_up(pair: tuple[nn.Module, nn.Module]) -> None:
    _, fused = pair
    other = ready(Loop(), seed=7)
    fused.load_state_dict(other.state_dict())
    assert block_forward(fused).optimized is None
    assert torch.equal(fused(X), other(X))


def test_pytorch_s_tracers_see_python_or_registered_graphs(
    pair: tuple[nn.Module, nn.Module],
) -> None:
    model, fused = pair
    block = fused.get_submodule("block")
    exported = torch.export.export(block, (X,))
    assert "batch_norm" in str(exported.graph)
    with registered_parts(fused):
        assert "bnfuse_graph_0.0.weight" in fused.state_dict()
    assert all(not key.startswith("bnfuse_graph") for key in fused.state_dict())
    compiled = torch.compile(block, backend="eager")
    assert relative_error(compiled(X), model.get_submodule("block")(X)) < 1e-12


class Optional(nn.Module):
    """Has an argument that may be left out."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor, scale: float = 1.0) -> torch.Tensor:
        return self.norm(self.conv(x)) * scale


def test_exporters_lift_the_graphs_of_parts() -> None:
    fused = bnfuse.optimize(ready(Optional()))
    with registered_parts(fused):
        exported = torch.export.export(fused, (X,))
    assert "batch_norm" not in str(exported.graph)
    assert relative_error(exported.module()(X), ready(Optional())(X)) < 1e-12
