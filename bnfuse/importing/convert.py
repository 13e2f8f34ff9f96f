"""From an ONNX file to a graph of PyTorch's own operations."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

from bnfuse.errors import BnfuseError
from bnfuse.extras import require
from bnfuse.importing.builder import Builder
from bnfuse.importing.file import OnnxFile, read_file
from bnfuse.importing.names import Paths, identifier
from bnfuse.importing.operators import OPERATORS
from bnfuse.importing.site import Site
from bnfuse.importing.sizes import Sizes, on_sizes
from bnfuse.importing.tensors import tensor_of

if TYPE_CHECKING:
    import os

    from torch import nn

    from bnfuse.importing.shapes import Type
    from bnfuse.importing.site import Value


@dataclass(frozen=True, slots=True)
class Imported:
    """A file and the module that computes the same.

    Attributes:
        file: The file.
        module: The module; its arguments are the file's inputs in order.
    """

    file: OnnxFile
    module: fx.GraphModule


def load_onnx(path: str | os.PathLike[str]) -> nn.Module:
    """Return a module that computes what an ONNX file does.

    The module is a graph of PyTorch's own layers and functions. Layers have the names that their
    weights have in the file (``layer1.0.conv1`` for ``layer1.0.conv1.weight``), or else those of
    the nodes. It takes the file's inputs in order, asserts that they have the shapes the file
    declares, and returns its output, or a tuple of several. Loading runs no code of the file.

    Args:
        path: A file of opset 13 to 23. Weights outside of it are read from its own folder.

    Raises:
        RequestError: There is no such file, it is damaged, or it holds an operator that is not
            converted; the message names the operator and the node.
        MissingDependencyError: onnx is not installed.
    """
    return imported(path).module


def imported(path: str | os.PathLike[str]) -> Imported:
    """Return what ``load_onnx`` does, with the file.

    Raises:
        RequestError: As ``load_onnx`` does.
    """
    file = read_file(path, OPERATORS)
    builder = Builder()
    values = _given(file, builder)
    for node in file.proto.graph.node:
        site = _site(file, builder, node, values)
        for name, value in zip(site.outputs, _converted(site), strict=False):
            if isinstance(value, Tensor):
                builder.name(value, name)
            values[name] = value
    results = [_result(builder, values[output.name]) for output in file.proto.graph.output]
    builder.graph.output(results[0] if len(results) == 1 else tuple(results))
    _tidy(builder.graph)
    builder.graph.lint()
    module = fx.GraphModule(builder.root, builder.graph, class_name=identifier(file.path.stem))
    module.eval()
    return Imported(file, module)


def _given(file: OnnxFile, builder: Builder) -> dict[str, Value | None]:
    """Return what the names stand for that no node makes."""
    values: dict[str, Value | None] = {"": None}
    arguments = Paths()
    for name in file.inputs:
        builder.arguments[name] = builder.graph.placeholder(arguments.unused(identifier(name)))
    for name, declared in file.inputs.items():
        _assert_shape(builder, name, declared)
    values.update(builder.arguments)
    for proto in file.proto.graph.initializer:
        tensor = tensor_of(proto)
        builder.name(tensor, proto.name)
        values[proto.name] = tensor
    return values


def _assert_shape(builder: Builder, name: str, declared: Type) -> None:
    """Let the module refuse what the file does, since its constants are made for its own shapes."""
    given = builder.arguments[name]
    if declared.dims is None:
        return
    wanted = f"the input {name!r} has the shape {declared.shape}"

    def check(found: Any, number: int) -> None:
        builder.call(torch._assert, builder.call(operator.eq, found, number), wanted)

    check(builder.method("dim", given), len(declared.dims))
    for axis, size in enumerate(declared.dims):
        if size is not None:
            check(builder.size(given, axis), size)


def _site(file: OnnxFile, builder: Builder, node: Any, values: dict[str, Value | None]) -> Site:
    read = require("onnx", "to read ONNX files").helper.get_attribute_value
    attributes = {attribute.name: read(attribute) for attribute in node.attribute}
    outputs = list(node.output)
    while outputs and not outputs[-1]:  # results that are left out
        outputs.pop()
    return Site(
        name=node.name or outputs[0],
        kind=node.op_type,
        opset=file.opset,
        inputs=tuple(values[name] for name in node.input),
        names=tuple(node.input),
        outputs=tuple(outputs),
        attributes={key: _plain(value) for key, value in attributes.items()},
        types=file.types,
        builder=builder,
    )


def _plain(value: Any) -> Any:
    """Return text as such, and lists that are not the file's own."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    return list(value) if not isinstance(value, str) and hasattr(value, "__iter__") else value


def _converted(site: Site) -> tuple[Value, ...]:
    """Return the results of a node."""
    try:
        found = on_sizes(site)
        made = OPERATORS[site.kind](site) if found is None else found
    except BnfuseError:
        raise
    except Exception as error:  # PyTorch refuses what is wrong with constants in many ways
        first_line = (str(error).strip().splitlines() or [""])[0]
        raise site.error(f"{type(error).__name__}: {first_line}") from error
    results = made if isinstance(made, tuple) else (made,)
    if len(results) < len(site.outputs):
        raise site.error(f"it has {len(site.outputs)} results")
    return results


def _result(builder: Builder, value: Value | None) -> fx.Node:
    if isinstance(value, Sizes):
        value = builder.as_tensor(value)
    if isinstance(value, Tensor):
        return builder.lifted(value)
    if value is None:
        raise ValueError("onnx checks that every result is made")
    return value


def _tidy(graph: fx.Graph) -> None:
    """Take out what nothing reads; no operation of a file does more than return its results."""
    for node in reversed(graph.nodes):
        is_needed = node.op in ("placeholder", "output") or node.target is torch._assert
        if not node.users and not is_needed:
            graph.erase_node(node)
