"""The optimized module keeps the original's face."""

from __future__ import annotations

import copy
import io
import pickle
import threading
from collections import OrderedDict
from typing import TYPE_CHECKING

import pytest
import torch
from torch import fx, nn

import bnfuse
from bnfuse.graph import OptimizedModule
from tests.support import noise, ready, relative_error, sequential

if TYPE_CHECKING:
    from collections.abc import Callable


class Net(nn.Module):
    """A model with attributes, a method beside forward, in-place operations and a structure."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            OrderedDict(conv=nn.Conv2d(3, 4, 3), bn=nn.BatchNorm2d(4), act=nn.ReLU(inplace=True))
        )
        self.names = ["cat", "dog"]
        self.stride = 32
        self.register_buffer("mean", torch.ones(1, 3, 1, 1))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        y = self.features(x - self.get_buffer("mean"))
        z = y
        z += 1  # changes y as well
        return OrderedDict(y=y, z=z * 2)

    def extract(self, x: torch.Tensor) -> torch.Tensor:
        return self.features(x)


@pytest.fixture
def model() -> nn.Module:
    return ready(Net())


X = noise(1, 3, 6, 6)

WAYS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "itself": lambda m: m,
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda m: pickle.loads(pickle.dumps(m)),
    "saved": lambda m: torch.load(_saved(m), weights_only=False),
    "optimized again": bnfuse.optimize,
    "pickled copy": lambda m: pickle.loads(pickle.dumps(copy.deepcopy(m))),
}


def _saved(module: nn.Module) -> io.BytesIO:
    stream = io.BytesIO()
    torch.save(module, stream)
    stream.seek(0)
    return stream


@pytest.mark.parametrize("way", WAYS)
def test_it_travels(model: nn.Module, way: str) -> None:
    fused = WAYS[way](bnfuse.optimize(model))
    got, wanted = fused(X), model(X)
    assert type(got) is OrderedDict
    assert list(got) == ["y", "z"]
    assert all(relative_error(got[key], wanted[key]) < 1e-12 for key in wanted)
    assert isinstance(fused, fx.GraphModule)
    assert type(fused).__name__ == "Net"
    assert getattr(fused, "names") == ["cat", "dog"]  # noqa: B009 - typed as a tensor otherwise
    assert getattr(fused, "stride") == 32  # noqa: B009 - likewise
    assert bnfuse.report(fused).name_map == {"features.bn": "features.conv"}


def test_copies_share_nothing(model: nn.Module) -> None:
    fused = bnfuse.optimize(model)
    tensors = [model, fused, copy.deepcopy(fused)]
    pointers = [{t.data_ptr() for t in m.state_dict().values()} for m in tensors]
    assert not pointers[0] & pointers[1]
    assert not pointers[1] & pointers[2]


def test_names_types_and_places_of_layers(model: nn.Module) -> None:
    fused = bnfuse.optimize(model)
    assert type(fused.get_submodule("features")) is nn.Sequential
    assert [type(layer) for layer in fused.get_submodule("features").children()] == [
        nn.Conv2d,
        nn.Identity,
        nn.ReLU,
    ]
    assert list(fused.state_dict()) == ["mean", "features.conv.weight", "features.conv.bias"]
    assert not any(parameter.requires_grad for parameter in fused.parameters())
    assert not fused.training


def test_a_method_that_was_not_captured_says_so(model: nn.Module) -> None:
    fused = bnfuse.optimize(model)
    text = "Net.extract was not captured, only the forward of the whole model was"
    with pytest.raises(bnfuse.BnfuseError, match=text):
        fused.extract(X)  # type: ignore[operator]  # a method of the original
    with pytest.raises(bnfuse.BnfuseError, match="features was not captured"):
        fused.get_submodule("features")(X)
    assert not hasattr(fused, "nonsense")


def test_it_can_be_cast_and_loaded(model: nn.Module) -> None:
    fused = bnfuse.optimize(model).float()
    assert fused(X.float())["y"].dtype is torch.float32
    other = bnfuse.optimize(ready(Net(), seed=5)).float()
    other.load_state_dict(fused.state_dict())
    assert torch.equal(other(X.float())["y"], fused(X.float())["y"])


def test_it_can_be_exported_and_compiled_to_a_graph(model: nn.Module) -> None:
    fused = bnfuse.optimize(model)
    exported = torch.export.export(fused, (X,))
    assert relative_error(exported.module()(X)["z"], model(X)["z"]) < 1e-12
    compiled = torch.compile(fused, backend="eager")
    assert relative_error(compiled(X)["z"], model(X)["z"]) < 1e-12


def test_hooks_of_the_root_still_run() -> None:
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    model.register_forward_hook(lambda _m, _a, out: out * 2)
    fused = bnfuse.optimize(model)
    assert relative_error(fused(X), model(X)) < 1e-12
    assert len(bnfuse.report(fused).folded) == 1


def test_threads_may_share_it(model: nn.Module) -> None:
    fused, results = bnfuse.optimize(model), []
    threads = [threading.Thread(target=lambda: results.append(fused(X)["y"])) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(torch.equal(result, results[0]) for result in results)


def test_operators_on_numbers_alone_are_pickled_as_operators() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    drawn = graph.call_function(torch.ops.aten.rand.default, ([4],))
    counted = graph.call_function(torch.ops.aten.arange.default, (4,), {"dtype": torch.float32})
    noisy = graph.call_function(torch.ops.aten.add.Tensor, (drawn, counted))
    graph.output(graph.call_function(torch.ops.aten.add.Tensor, (x, noisy)))
    module = OptimizedModule(nn.Module(), graph, "Noisy")
    travelled = pickle.loads(pickle.dumps(module))
    targets = [[str(node.target) for node in one.graph.nodes] for one in (module, travelled)]
    assert targets[0] == targets[1]
    results: list[torch.Tensor] = []
    for one in (module, travelled, travelled):
        torch.manual_seed(len(results) // 2)
        results.append(one(torch.zeros(4)))
    assert torch.equal(results[0], results[1])
    assert not torch.equal(results[1], results[2])
