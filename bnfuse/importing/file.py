"""Read an ONNX file that may come from anyone, and refuse what cannot be converted.

Reading runs no code of the file: it holds data and names of operators. Weights outside the file are
read from its own folder only, which onnx checks, links included.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfuse.errors import BnfuseError, RequestError
from bnfuse.extras import require
from bnfuse.importing.shapes import Type, inferred_types

if TYPE_CHECKING:
    import os
    from collections.abc import Container, Mapping


OLDEST_OPSET, NEWEST_OPSET = 13, 23
_OWN_DOMAINS = ("", "ai.onnx")
_FIRST_IR_WITH_DEFAULTS = 4  # before it every constant stood among the inputs too


@dataclass(frozen=True, slots=True)
class OnnxFile:
    """A file that was read and checked.

    Attributes:
        path: Where it is.
        proto: What is in it, functions written out.
        opset: The version of the operators it asks for.
        inputs: The names of its inputs with their types, constants among them left out.
        types: The types of all values, as far as they can be known.
    """

    path: Path
    proto: Any
    opset: int
    inputs: Mapping[str, Type]
    types: Mapping[str, Type]


def read_file(path: str | os.PathLike[str], operators: Container[str]) -> OnnxFile:
    """Read a file and check that it can be converted.

    Args:
        path: The file.
        operators: The names of the operators there are rules for.

    Raises:
        RequestError: There is no such file, it is damaged, weights outside of it are missing or
            outside its folder, or it needs what bnfuse does not convert, which is named.
        MissingDependencyError: onnx is not installed.
    """
    onnx = require("onnx", "to read ONNX files")
    target = Path(path)
    proto = _parsed(onnx, target)
    if proto.functions:
        proto = require("onnx.inliner", "to read ONNX files").inline_local_functions(proto)
    opset = _opset(target, proto)
    for node in proto.graph.node:
        _check_node(target, node, operators)
    _check_graph(target, proto)
    try:
        onnx.checker.check_model(str(target))
        onnx.load_external_data_for_model(proto, str(target.parent))
        types = inferred_types(onnx, proto, target)
    except BnfuseError:
        raise
    except Exception as error:  # onnx raises many kinds for what is wrong with a file
        raise RequestError(
            f"{target} is not valid ({_first_line(error)}): export it again, and keep the files "
            "of its weights beside it."
        ) from error
    constants = {tensor.name for tensor in proto.graph.initializer}
    names = [given.name for given in proto.graph.input if given.name not in constants]
    for name in names:
        if name not in types:
            raise RequestError(
                f"the input {name!r} of {target} is no tensor: bnfuse takes tensors alone."
            )
    return OnnxFile(target, proto, opset, {name: types[name] for name in names}, types)


def _parsed(onnx: Any, target: Path) -> Any:
    if not target.is_file():
        raise RequestError(f"there is no file {target}: check the path.")
    try:
        proto = onnx.load(target, load_external_data=False)
    except Exception as error:  # bytes of another kind can raise anything
        raise RequestError(
            f"{target} is no ONNX file or a damaged one ({_first_line(error)}): export it again."
        ) from error
    if not proto.graph.node:
        raise RequestError(f"{target} has no operators: it is no ONNX file, or an empty one.")
    return proto


def _opset(target: Path, proto: Any) -> int:
    versions = [entry.version for entry in proto.opset_import if entry.domain in _OWN_DOMAINS]
    opset = int(versions[0]) if versions else 1
    if not OLDEST_OPSET <= opset <= NEWEST_OPSET:
        raise RequestError(
            f"{target} is written for opset {opset}, and bnfuse reads {OLDEST_OPSET} to "
            f"{NEWEST_OPSET}: convert it with onnx.version_converter.convert_version."
        )
    return opset


def _check_node(target: Path, node: Any, operators: Container[str]) -> None:
    """Refuse operators without a rule, and nodes with graphs of their own."""
    name = node.name or next(iter(node.output), "")
    where = f"the node {name!r} of {target}"
    if node.domain not in _OWN_DOMAINS:
        raise RequestError(
            f"{where} is the operator {node.op_type} of {node.domain}, and bnfuse converts "
            "operators of ONNX itself alone: export the model without that runtime's optimizations."
        )
    if any(attribute.HasField("g") or attribute.graphs for attribute in node.attribute):
        raise RequestError(
            f"{where} is the operator {node.op_type} with graphs inside, and bnfuse converts none "
            "that branch or loop: export the model without control flow."
        )
    if node.op_type not in operators:
        raise RequestError(
            f"{where} is the operator {node.op_type}, which bnfuse does not convert: optimize the "
            "PyTorch model it was exported from, or ask for the operator."
        )


def _check_graph(target: Path, proto: Any) -> None:
    graph = proto.graph
    if graph.sparse_initializer:
        raise RequestError(f"{target} has sparse tensors, which bnfuse does not convert.")
    inputs = {given.name for given in graph.input}
    defaults = [tensor.name for tensor in graph.initializer if tensor.name in inputs]
    if defaults and proto.ir_version >= _FIRST_IR_WITH_DEFAULTS:
        raise RequestError(
            f"the input {defaults[0]!r} of {target} has a default value, so that it is neither a "
            "constant nor an input: take it from the inputs of the graph, or its value away."
        )


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(".") if lines else type(error).__name__
