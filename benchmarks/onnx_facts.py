"""What an ONNX file is made of."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import onnx

ARITHMETIC = ("Mul", "Add", "Sub", "Div")


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Give the nodes of a graph and of the graphs inside its nodes."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes(inner)


def facts(path: Path) -> dict[str, Any]:
    """Return what a file is made of.

    ``constant_arithmetic`` counts sums and products with a constant of more than one element, as a
    batch norm leaves that was taken apart; ``dead`` the nodes that nothing reads.
    """
    graph = onnx.load(path).graph
    every = list(nodes(graph))
    kinds = Counter(node.op_type for node in every)
    read = {name for node in every for name in node.input} | {out.name for out in graph.output}
    large = {t.name for t in graph.initializer if max(t.dims, default=1) > 1}
    told = {v.name for v in (*graph.value_info, *graph.input, *graph.output)}
    return {
        "bytes": sum(p.stat().st_size for p in path.parent.glob(f"{path.name}*")),
        "nodes": len(every),
        "batch_norms": kinds["BatchNormalization"],
        "constant_arithmetic": sum(
            node.op_type in ARITHMETIC and not large.isdisjoint(node.input) for node in every
        ),
        "identities": kinds["Identity"],
        "casts": kinds["Cast"],
        "dead": sum(read.isdisjoint(node.output) for node in every),
        "without_shape": sum(name not in told for node in graph.node for name in node.output),
        "by_type": dict(kinds.most_common()),
    }
