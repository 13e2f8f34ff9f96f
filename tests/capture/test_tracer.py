"""What the tracer keeps beyond torch.fx's own."""

from __future__ import annotations

import operator
import threading
from collections import OrderedDict
from dataclasses import dataclass

import pytest
import torch
from torch import fx, nn

from bnfuse.capture.tracer import ModelTracer
from tests.support import noise


class InPlace(nn.Module):
    """Every augmented assignment tensors have."""

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        y = x * 1
        z = y
        z += 1
        z *= 2
        z -= 3
        z /= 4
        return y, z


def test_augmented_assignment_stays_in_place() -> None:
    model = InPlace()
    module = fx.GraphModule(model, ModelTracer().trace(model))
    targets = [node.target for node in module.graph.nodes if node.op == "call_function"]
    assert targets == [
        operator.mul, operator.iadd, operator.imul, operator.isub, operator.itruediv
    ]  # fmt: skip
    y, z = module(noise(2))
    assert y is z
    assert torch.equal(y, model(noise(2))[0])


@dataclass
class Output:
    """A plain data class."""

    logits: torch.Tensor
    name: str = "none"


class Result(OrderedDict[str, torch.Tensor]):
    """A dictionary with a name of its own."""


@pytest.mark.parametrize(
    "make",
    [dict, OrderedDict, Result, lambda pairs: Output(**dict(pairs)), lambda p: [{"a": dict(p)}]],
    ids=["dict", "OrderedDict", "subclass", "dataclass", "nested"],
)
def test_returned_containers_keep_their_type(make: type) -> None:
    class Returning(nn.Module):
        def forward(self, x: torch.Tensor) -> object:
            return make([("logits", x.relu())])

    model = Returning()
    module = fx.GraphModule(model, ModelTracer().trace(model))
    got, wanted = module(noise(2)), model(noise(2))
    assert type(got) is type(wanted)
    assert str(got) == str(wanted)


def test_buffers_are_read_by_name() -> None:
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Module()
            self.inner.register_buffer("scale", torch.ones(2))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x * self.inner.get_buffer("scale")

    graph = ModelTracer().trace(Scaled())
    assert [node.target for node in graph.nodes if node.op == "get_attr"] == ["inner.scale"]


def test_calls_in_other_threads_go_on_during_a_trace() -> None:
    other, seen = nn.Sequential(nn.Conv2d(1, 1, 1)).eval(), list[object]()

    class Calling(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            thread = threading.Thread(target=lambda: seen.append(other(torch.zeros(1, 1, 2, 2))))
            thread.start()
            thread.join()
            return x + 1

    graph = ModelTracer().trace(Calling())
    assert [type(value) for value in seen] == [torch.Tensor]
    assert [node.op for node in graph.nodes] == ["placeholder", "call_function", "output"]
