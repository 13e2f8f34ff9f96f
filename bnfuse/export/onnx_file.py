"""Convert a module to an ONNX protobuf, describe it, and save it checked."""

from __future__ import annotations

import inspect
import io
import json
import logging
import warnings
from contextlib import contextmanager, redirect_stderr
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from bnfuse.errors import ExportError
from bnfuse.extras import require
from bnfuse.graph.part import registered_parts

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from torch import nn

    from bnfuse.report import Report
    from bnfuse.validation.inputs import Arguments

REPORT_KEY = "bnfuse.report"
VERSION_KEY = "bnfuse.version"


def converted(optimized: nn.Module, call: Arguments, dynamic_batch: bool) -> tuple[Any, bool]:
    """Return the model as an ONNX protobuf, and whether its batch size is open."""
    if dynamic_batch:
        try:
            return _convert(optimized, call, _batch_axes(optimized, call)), True
        except Exception:  # whatever stands in the way, the fixed size may still do
            logging.getLogger(__name__).info("batch size is fixed by the model", exc_info=True)
    try:
        return _convert(optimized, call, None), False
    except Exception as error:
        cause = error.__cause__ or error  # the exporter wraps it in advice over many lines
        first_line = (str(cause).strip().splitlines() or [""])[0]
        raise ExportError(
            f"torch.onnx cannot convert {type(optimized).__name__} "
            f"({type(cause).__name__}: {first_line}): "
            "torch.onnx.export(model, args, dynamo=True, report=True) writes the details."
        ) from error


def _convert(optimized: nn.Module, call: Arguments, dynamic_shapes: Any) -> Any:
    args, kwargs = call
    with _quiet(), torch.no_grad(), registered_parts(optimized):
        program = torch.onnx.export(
            optimized,
            args,
            kwargs=kwargs,
            dynamo=True,
            dynamic_shapes=dynamic_shapes,
            external_data=False,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx returned nothing")
    return program.model_proto


def _batch_axes(optimized: nn.Module, call: Arguments) -> dict[str, Any]:
    """Return torch.export's description of inputs whose first axis is one open batch size."""
    batch = torch.export.Dim("batch", min=1)

    def axes(leaf: Any) -> dict[int, Any] | None:
        return {0: batch} if isinstance(leaf, torch.Tensor) and leaf.ndim else None

    args, kwargs = call
    names = list(inspect.signature(optimized.forward).parameters)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    return {name: pytree.tree_map(axes, value) for name, value in given.items()}


def describe(proto: Any, made: Report) -> None:
    """Replace the exporter's notes, which hold paths of this machine, by the report.

    Equal models make equal files, so the report goes without how long its checks took.
    """
    from bnfuse import __version__

    rows = replace(made, check_seconds=None).to_dict()

    graphs = [proto.graph, *proto.functions]
    for graph in graphs:
        for noted in _noted(graph):
            del noted.metadata_props[:]
            noted.doc_string = ""
    del proto.metadata_props[:]
    for key, value in ((VERSION_KEY, __version__), (REPORT_KEY, json.dumps(rows))):
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


def save_checked(proto: Any, path: Path) -> None:
    """Write the file and have onnx check it in full."""
    onnx = require("onnx", "to export ONNX")
    try:
        path.write_bytes(proto.SerializeToString(deterministic=True))
        onnx.checker.check_model(str(path), full_check=True)
    except OSError:
        raise
    except Exception as error:
        raise ExportError(
            f"the exported graph is not a valid ONNX file ({str(error).splitlines()[0]}): "
            "please report the model."
        ) from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own internals from the user's terminal.

    They come from many loggers with levels of their own; what matters is raised as well.
    """
    before = logging.root.manager.disable
    try:
        logging.disable(logging.CRITICAL)
        with warnings.catch_warnings(), redirect_stderr(io.StringIO()):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)
