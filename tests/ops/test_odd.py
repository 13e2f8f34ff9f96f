"""What no fold can read of a call."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx, nn

from bnfuse.graph import Program
from bnfuse.ops import Call, read_call
from bnfuse.ops.odd import oddities


def call_of(layer: nn.Module, **attributes: Any) -> Call:
    for name, value in attributes.items():
        delattr(layer, name)
        if value is not ...:
            setattr(layer, name, value)
    model = nn.Sequential(layer).eval()
    graph = fx.Graph()
    graph.output(graph.call_module("0", (graph.placeholder("x"),)))
    program = Program(model, graph)
    call = read_call(program, next(iter(graph.find_nodes(op="call_module", target="0"))))
    assert call is not None
    return call


def conv(**attributes: Any) -> Call:
    return call_of(nn.Conv2d(3, 4, 1), **attributes)


def norm(**attributes: Any) -> Call:
    return call_of(nn.BatchNorm2d(4), **attributes)


@pytest.mark.parametrize(
    ("call", "found"),
    [
        (conv(), []),
        (norm(), []),
        (norm(eps=torch.tensor(1e-3)), []),
        (norm(weight=None), []),
        (conv(weight=...), ["0.weight is missing"]),
        (conv(weight=None), ["0.weight is None"]),
        (conv(weight=[1]), ["0.weight is a list"]),
        (conv(groups=None), ["0.groups is no number"]),
        (norm(eps="small"), ["0.eps is no number"]),
        (norm(eps=torch.ones(2)), ["0.eps is no number"]),
        (norm(running_mean=torch.zeros(4).to_sparse()), ["0.running_mean is sparse_coo"]),
        (norm(running_var=torch.ones(1)), ["0.running_var has the shape (1,)"]),
        (norm(running_var=torch.ones(2, 2)), ["0.running_var has the shape (2, 2)"]),
    ],
)
def test_oddities(call: Call, found: list[str]) -> None:
    assert oddities(call) == found


def test_what_is_no_tensor_is_not_given_as_one() -> None:
    assert conv(weight=[1]).tensor("weight") is None
    assert conv(bias=...).tensor("bias") is None
