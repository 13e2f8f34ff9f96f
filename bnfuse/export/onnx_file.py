"""From an exported program to an ONNX model: converted, without anything idle, named, described."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.errors import ExportError, RequestError
from bnfuse.export.faults import conversion_error
from bnfuse.export.onnx_shapes import settle_reshapes
from bnfuse.export.program import quiet
from bnfuse.extras import require
from bnfuse.report.render import headline

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch.export import ExportedProgram

    from bnfuse.export.program import Captured
    from bnfuse.report import Report

REPORT_KEY = "bnfuse.report"
VERSION_KEY = "bnfuse.version"
SOURCE_KEY = "bnfuse.source"
TORCH_KEY = "torch.version"
_MEANS = {torch.ops.aten.adaptive_avg_pool2d.default: torch.ops.aten.mean.dim}
_FIRST_WITH_BFLOAT16 = 22
"""The first opset whose convolutions and poolings take bfloat16."""


def converted(captured: Captured, name: str, opset_version: int | None = None) -> Any:
    """Return a program as an ``onnx_ir.Model``.

    Args:
        captured: The program.
        name: The class of the model, for messages.
        opset_version: The version of ONNX's operators; None for the exporter's own choice.

    Raises:
        ExportError: An operator has no translation, or not into that version.
    """
    plain_means(captured.program)
    if opset_version is None and _has_bfloat16(captured):
        opset_version = _FIRST_WITH_BFLOAT16
    try:
        with quiet(), torch.no_grad():
            made = torch.onnx.export(
                captured.program,
                dynamo=True,
                dynamic_shapes=captured.dynamic_shapes,
                opset_version=opset_version,
                external_data=False,
                verbose=False,
            )
        if made is None:
            raise RuntimeError("torch.onnx returned nothing")  # noqa: TRY301 - one way out
    except Exception as error:
        raise conversion_error(name, error) from error
    model: Any = made.model
    written = model.opset_imports.get("", opset_version)
    if opset_version is not None and written != opset_version:
        raise ExportError(
            f"{name} cannot be written in opset {opset_version}, only in {written}: "
            f"pass opset_version={written}, or none."
        )
    with quiet():
        tidy(model)
    return model


def plain_means(program: ExportedProgram) -> None:
    """Write an average over all of an image as the mean it is.

    PyTorch decomposes such a pooling into a mean whose strides are set to those of the example
    afterwards, which ONNX can only spell as a gather of every element by its number.
    """
    for pooling, mean in _MEANS.items():
        for node in program.graph.find_nodes(op="call_function", target=pooling):
            value, sizes = node.args
            if all(size == 1 for size in sizes):
                node.target = mean
                node.args = (value, list(range(-len(sizes), 0)), True)


def _has_bfloat16(captured: Captured) -> bool:
    tensors = captured.program.state_dict.values()
    return any(tensor.dtype is torch.bfloat16 for tensor in tensors)


def tidy(model: Any) -> None:
    """Take out of an ``onnx_ir.Model`` what does nothing: identities, and what nothing reads.

    What computes the targets of reshapes goes where they are known, and axes that runtimes look for
    are written as they look for them.
    """
    common = require("onnx_ir.passes.common", "to export ONNX")
    for node in list(_nodes(model)):
        if node.op_type == "Identity" and not node.domain:
            _bypass(node)
        elif node.op_type == "Concat":
            count_from_front(node)
    settle_reshapes(model)
    common.RemoveUnusedNodesPass()(model)
    common.RemoveUnusedFunctionsPass()(model)
    common.RemoveUnusedOpsetsPass()(model)


def _nodes(model: Any) -> Iterator[Any]:
    """Yield the nodes of a model, with those of the graphs inside nodes and of its functions."""
    ir = require("onnx_ir", "to export ONNX")
    for graph in (model.graph, *model.functions.values()):
        yield from ir.traversal.RecursiveGraphIterator(graph)


def count_from_front(node: Any) -> None:
    """Write the axis of a concatenation as a number from the front, where the rank is known.

    ONNX Runtime leaves a concatenation in its blocked layout where the axis is written as 1.
    """
    ir = require("onnx_ir", "to export ONNX")
    axis, shape = node.attributes["axis"].as_int(), node.outputs[0].shape
    if axis < 0 and shape is not None:
        node.attributes["axis"] = ir.AttrInt64("axis", axis + len(shape))


def _bypass(node: Any) -> None:
    """Let the readers of an identity read what it reads.

    An output of a graph has to be a value of its own, made by a node: an identity stays where it
    returns an input, a constant, a value of a graph around it, or one that is an output already.
    """
    ir = require("onnx_ir", "to export ONNX")
    (source,), (result,) = node.inputs, node.outputs
    if source is None:
        return
    is_output = result.is_graph_output()
    maker = source.producer()
    if is_output and (maker is None or maker.graph is not node.graph or source.is_graph_output()):
        return
    name = result.name
    source.type, source.shape = source.type or result.type, source.shape or result.shape
    ir.convenience.replace_all_uses_with(result, source, replace_graph_outputs=True)
    node.graph.remove(node, safe=True)
    if is_output:
        source.name = name


def name_values(
    model: Any, input_names: Sequence[str] | None, output_names: Sequence[str] | None
) -> None:
    """Give the inputs and outputs of an ``onnx_ir.Model`` the names that were asked for.

    Raises:
        RequestError: There are more or fewer of them, or a name is taken.
    """
    graph = model.graph
    ends = {id(value) for value in (*graph.inputs, *graph.outputs)}
    values = [*graph.initializers.values(), *(v for node in _nodes(model) for v in node.outputs)]
    taken = {value.name for value in values if id(value) not in ends}
    for what, given, found in (
        ("input", input_names, graph.inputs),
        ("output", output_names, graph.outputs),
    ):
        if given is None:
            continue
        if len(given) != len(found):
            was = ", ".join(str(value.name) for value in found)
            raise RequestError(
                f"{what}_names has {len(given)} names and the file {len(found)} {what}s ({was}): "
                "name each of them."
            )
        for value, name in zip(found, given, strict=True):
            value.name = name
    names = [value.name for value in {id(v): v for v in (*graph.inputs, *graph.outputs)}.values()]
    for name in names:
        if name in taken or names.count(name) > 1:
            raise RequestError(
                f"{name!r} would name two values of the file: give every input and output a name "
                "of its own."
            )


def describe(proto: Any, made: Report, source: str) -> None:
    """Replace the exporter's notes, which hold paths of this machine, by the report.

    Equal models make equal files, so the report goes without how long its checks took.

    Args:
        proto: The model.
        made: What happened to every batch norm.
        source: The class of the model, with its module.
    """
    from bnfuse import __version__

    for graph in (proto.graph, *proto.functions):
        for noted in _noted(graph):
            del noted.metadata_props[:]
            noted.doc_string = ""
    del proto.metadata_props[:]
    proto.doc_string = headline(made)
    rows = json.dumps(replace(made, check_seconds=None).to_dict())
    entries = {
        VERSION_KEY: __version__,
        SOURCE_KEY: source,
        TORCH_KEY: torch.__version__.partition("+")[0],
        REPORT_KEY: rows,
    }
    for key, value in entries.items():
        proto.metadata_props.add(key=key, value=value)
    proto.producer_name, proto.producer_version = "bnfuse", __version__


def _noted(graph: Any) -> Iterator[Any]:
    """Yield everything in a graph or function that can carry notes."""
    yield graph
    for name in ("node", "value_info", "input", "output", "initializer"):
        for entry in getattr(graph, name, ()):
            if not isinstance(entry, str):
                yield entry
    for attribute in (attribute for node in graph.node for attribute in node.attribute):
        branches = [attribute.g] if attribute.HasField("g") else attribute.graphs
        for branch in branches:
            yield from _noted(branch)
