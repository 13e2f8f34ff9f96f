"""A part keeps its own Python beside its graph."""

from __future__ import annotations

import copy
import pickle
import warnings
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


class Sized(nn.Module):
    """Captured for one shape: it asks for a size as a number, and names a dtype."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding, self.conv = nn.Embedding(9, 3), nn.Conv1d(3, 3, 1)
        self.norm = nn.BatchNorm1d(3)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        values = self.embedding(ids).mT
        for _ in range(int(ids.shape[0])):
            values = values + (ids > 3).to(values.dtype)[:, None] * torch.arange(4)
        return self.norm(self.conv(values))


IDS = torch.tensor([[1, 2, 3, 4], [5, 6, 7, 8]])


@pytest.fixture
def by_example() -> tuple[nn.Module, nn.Module]:
    model = ready(Sized())
    fused = bnfuse.optimize(model, (IDS,), validate=False)
    assert len(bnfuse.report(fused).folded) == 1
    return model, fused


def has_graph(module: nn.Module) -> bool:
    """Whether a module runs a graph."""
    forward = part_forward(module)
    assert forward is not None
    return forward.optimized is not None


@pytest.mark.parametrize(
    "way", [copy.deepcopy, lambda m: pickle.loads(pickle.dumps(m))], ids=["deepcopy", "pickle"]
)
def test_a_graph_of_an_example_travels(
    by_example: tuple[nn.Module, nn.Module], way: Callable[[nn.Module], nn.Module]
) -> None:
    model, fused = by_example
    travelled = way(fused)
    assert has_graph(travelled)
    assert travelled.get_submodule("norm") is not fused.get_submodule("norm")
    assert relative_error(travelled(IDS), model(IDS)) < 1e-12
    assert relative_error(travelled(IDS[:1]), model(IDS[:1])) < 1e-12


def test_a_graph_of_an_example_is_given_up_for_another_dtype(
    by_example: tuple[nn.Module, nn.Module],
) -> None:
    model, fused = by_example
    fused.to("cpu")
    assert has_graph(fused)
    fused.float()
    assert not has_graph(fused)
    assert fused(IDS).dtype is torch.float32
    assert relative_error(fused(IDS).double(), model(IDS)) < 1e-5


def test_a_graph_of_an_example_is_given_up_for_other_weights_and_in_training(
    by_example: tuple[nn.Module, nn.Module],
) -> None:
    model, fused = by_example
    other, trained = ready(Sized(), seed=7), copy.deepcopy(fused)
    fused.load_state_dict(other.state_dict())
    assert torch.equal(fused(IDS), other(IDS))
    assert relative_error(trained.train()(IDS), model.train()(IDS)) < 1e-12
    assert relative_error(trained.eval()(IDS), model.eval()(IDS)) < 1e-12
    assert not has_graph(trained)


def test_pytorch_s_tracers_see_the_python_of_an_example(
    by_example: tuple[nn.Module, nn.Module],
) -> None:
    model, fused = by_example
    assert "batch_norm" in str(torch.export.export(fused, (IDS,)).graph)
    with registered_parts(fused):
        assert "batch_norm" in str(torch.export.export(fused, (IDS,)).graph)
    compiled = torch.compile(fused, backend="eager")
    for ids in (IDS, IDS[:1]):
        assert relative_error(compiled(ids), model(ids)) < 1e-12


def test_the_old_tracer_sees_the_python_of_an_example() -> None:
    class Flat(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y: torch.Tensor = self.norm(self.conv(x))
            return y.view(
                [y.size(number) if number == 0 else -1 for number, _ in enumerate((1, 2))]
            )

    model = ready(Flat())
    fused = bnfuse.optimize(model, (X,), validate=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(fused, (X,), check_trace=False)  # type: ignore[no-untyped-call]  # torch's
    other = noise(5, 3, 4, 4)
    assert relative_error(traced(other), model(other)) < 1e-12


@pytest.mark.parametrize("kind", ["trace", "example"])
def test_layers_inside_get_their_hooks_called_and_their_mode_heeded(
    kind: str, pair: tuple[nn.Module, nn.Module], by_example: tuple[nn.Module, nn.Module]
) -> None:
    (model, fused), x = (pair, X) if kind == "trace" else (by_example, IDS)
    name = "block.1" if kind == "trace" else "norm"
    seen: list[torch.Tensor] = []
    handle = fused.get_submodule(name).register_forward_hook(lambda _m, _a, out: seen.append(out))
    assert relative_error(fused(x), model(x)) < 1e-12
    handle.remove()
    fused(x)
    assert len(seen) == 1
    for one in (model, fused):
        one.get_submodule(name).train()
    assert relative_error(fused(x), model(x)) < 1e-12
    for one in (model, fused):
        one.eval()
    assert relative_error(fused(x), model(x)) < 1e-12
