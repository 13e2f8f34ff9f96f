"""The source of a plan: arguments of all kinds, made anew at each call."""

from __future__ import annotations

from typing import Any

import torch
from torch import fx

from bnfuse.graph.plan_source import Source


def made(graph: fx.Graph) -> Any:
    """Return the function of a graph without modules."""
    source = Source()
    for node in graph.nodes:
        source.add(node)
    return source.compiled()


def test_arguments_of_all_kinds() -> None:
    graph = fx.Graph()
    x, y = graph.placeholder("x"), graph.placeholder("from")
    piece = graph.call_method("__getitem__", (x, (slice(None, 2), ..., None)))  # type: ignore[arg-type]  # fx takes them
    total = graph.call_function(torch.add, (piece, y), {"alpha": 2})
    graph.output({"total": total, "parts": [piece, (y, 3, torch.float32)], "none": None})
    run, a, b = made(graph), torch.arange(6.0).reshape(3, 2), torch.ones(2, 2, 1)
    got = run(a, b)
    assert torch.equal(got["total"], a[:2, ..., None] + 2 * b)
    assert got["parts"][1][1:] == (3, torch.float32)
    assert got["none"] is None
    assert run(a, b)["parts"] is not got["parts"]


def test_values_are_let_go() -> None:
    graph = fx.Graph()
    x = graph.placeholder("x")
    y = graph.call_function(torch.neg, (x,))
    graph.call_function(torch.abs, (y,))  # nothing reads it
    z = graph.call_function(torch.exp, (y,))
    graph.output(z)
    source = Source()
    for node in graph.nodes:
        source.add(node)
    assert [line for line in source._lines if line.endswith("= None")] == [
        "v0 = None", "v2 = None", "v1 = None",
    ]  # fmt: skip
