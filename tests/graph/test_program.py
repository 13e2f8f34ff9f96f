"""Constants belong to their call sites."""

from __future__ import annotations

import torch
from torch import fx, nn

from bnfuse.graph import Program


class Reader(nn.Module):
    """A layer called once, one called twice, one whose weight is read as well."""

    def __init__(self) -> None:
        super().__init__()
        self.once, self.twice, self.read = (nn.Linear(2, 2) for _ in range(3))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.twice(self.twice(self.once(x)))
        return self.read(y) + self.read.bias


def traced() -> tuple[Program, dict[str, list[fx.Node]]]:
    model = Reader()
    program = Program(model, fx.Tracer().trace(model))
    calls: dict[str, list[fx.Node]] = {}
    for node in program.graph.nodes:
        calls.setdefault(str(node.target), []).append(node)
    return program, calls


def test_a_layer_with_one_reader_keeps_its_name_and_the_old_object_its_state() -> None:
    program, calls = traced()
    old = program.module("once")
    mine = program.own_module(calls["once"][0])
    assert calls["once"][0].target == "once"
    assert program.module("once") is mine is not old
    mine.bias = None  # type: ignore[assignment]  # as torch allows
    assert old.bias is not None


def test_a_layer_called_twice_is_given_a_copy() -> None:
    program, calls = traced()
    old = program.module("twice")
    mine = program.own_module(calls["twice"][1])
    assert [node.target for node in calls["twice"]] == ["twice", "twice_2"]
    assert program.module("twice_2") is mine
    assert program.module("twice") is old


def test_a_layer_whose_weight_is_read_is_given_a_copy() -> None:
    program, calls = traced()
    program.own_module(calls["read"][0])
    assert calls["read"][0].target == "read_2"


def test_a_layer_inside_a_called_module_is_given_a_copy() -> None:
    model = nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU())
    graph = fx.Graph()
    x = graph.placeholder("x")
    inner = graph.call_module("0.0", (graph.call_module("0", (x,)),))
    graph.output(inner)
    program = Program(model, graph)
    program.own_module(inner)
    assert inner.target == "0_0_2"  # a Sequential would call what stands in it


def test_a_new_layer_stands_beside_a_called_module_and_what_is_there() -> None:
    model = nn.Sequential(nn.Sequential(nn.ReLU()), nn.ReLU())
    graph = fx.Graph()
    graph.output(graph.call_module("0", (graph.placeholder("x"),)))
    model.__dict__["none"] = None
    program = Program(model, graph)
    assert program.place_module("0.new", nn.ReLU()) == "0_new_2"
    assert program.place_module("none", nn.ReLU()) == "none_2"
    assert program.place_module("other", nn.ReLU()) == "other"


def test_a_tensor_read_elsewhere_is_left() -> None:
    program, calls = traced()
    site = calls["once"][0]
    source = program.own_tensor(site, "bias", "read.bias", torch.zeros(2))
    assert source.target == "read_bias_2"
    assert program.tensor("read.bias") is not None
    fresh = program.own_tensor(site, "weight", None, torch.zeros(2))
    assert fresh.target == "once_weight_2"  # the call's name, beside the layer of that name


def test_tensor_answers_for_tensors_only() -> None:
    program, _ = traced()
    assert program.tensor("once.weight") is program.root.get_parameter("once.weight")
    assert program.tensor("once") is None
    assert program.tensor("once.missing") is None
    assert program.tensor("missing.weight") is None


def test_erase_takes_constants_that_nothing_else_reads() -> None:
    program, calls = traced()
    add = next(node for node in program.graph.nodes if node.name == "add")
    add.replace_all_uses_with(calls["read"][0])
    program.erase(add)
    assert "read.bias" not in {str(node.target) for node in program.graph.nodes}
    program.graph.lint()
