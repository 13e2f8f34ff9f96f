"""A model exported to ONNX and run by onnxruntime, called like the model."""

from __future__ import annotations

import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnxruntime
import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from benchmarks.peer_made import Made

if TYPE_CHECKING:
    from tests.conformance.case import Call

ATEN = {
    "Mul": "mul",
    "Add": "add",
    "Sub": "sub",
    "Sqrt": "rsqrt",
    "BatchNormalization": "native_batch_norm",
    "InstanceNormalization": "native_batch_norm",
}


def nodes(graph: onnx.GraphProto) -> Iterator[onnx.NodeProto]:
    """Give the nodes of a graph and of the graphs inside it."""
    for node in graph.node:
        yield node
        for attribute in node.attribute:
            for inner in (attribute.g, *attribute.graphs):
                yield from nodes(inner)


def left_running(exported: onnx.GraphProto, optimized: onnx.GraphProto) -> Counter[str]:
    """Count by aten name; a batch norm that has become a convolution of its own still runs."""
    before, after = (Counter(n.op_type for n in nodes(graph)) for graph in (exported, optimized))
    left = Counter({ATEN.get(name, name): count for name, count in after.items()})
    convs = [sum(n for name, n in ops.items() if "Conv" in name) for ops in (before, after)]
    left["native_batch_norm"] += max(convs[1] - convs[0], 0)
    return left


def split(args: Any, kwargs: Any) -> tuple[list[Tensor], list[Any]]:
    """Return the tensors of a call and whatever else it is given."""
    leaves = pytree.tree_leaves((args, dict(kwargs)))
    tensors = [leaf for leaf in leaves if isinstance(leaf, Tensor)]
    return tensors, [leaf for leaf in leaves if not isinstance(leaf, Tensor)]


def made_onnx(model: nn.Module, call: Call) -> Made:
    """Export with torch.onnx, and load with onnxruntime."""
    _, constants = split(call.args, call.kwargs)
    with tempfile.TemporaryDirectory() as folder:
        exported, optimized = (Path(folder) / name for name in ("exported", "optimized"))
        program = torch.onnx.export(
            model, call.args, kwargs=dict(call.kwargs), dynamo=True, verbose=False
        )
        assert program is not None
        program.save(exported)
        options = onnxruntime.SessionOptions()
        options.optimized_model_filepath = str(optimized)
        options.log_severity_level = 4
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = onnxruntime.InferenceSession(
            exported, options, providers=["CPUExecutionProvider"]
        )
        left = left_running(onnx.load(exported).graph, onnx.load(optimized).graph)

    def run(*args: Any, **kwargs: Any) -> list[Tensor]:
        tensors, others = split(args, kwargs)
        if others != constants:
            raise ValueError(f"the file was made for {constants}, not for {others}")
        names = [value.name for value in session.get_inputs()]
        given = {n: t.detach().numpy() for n, t in zip(names, tensors, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, given)]

    return Made(run, lambda *_: left)
