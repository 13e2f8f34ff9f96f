"""Write a deploy-ready ONNX file, and check it by running it."""

from __future__ import annotations

import inspect
import json
import logging
import warnings
from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from bnfuse.errors import ExportError, RequestError
from bnfuse.export.atomic import atomic_file
from bnfuse.extras import require
from bnfuse.optimizer import optimize
from bnfuse.report import Report, report
from bnfuse.validation import Verification
from bnfuse.validation import verify as compare
from bnfuse.validation.inputs import map_tensors

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor, nn

    from bnfuse.validation.inputs import Arguments

OTHER_BATCH = 3
REPORT_KEY = "bnfuse.report"
VERSION_KEY = "bnfuse.version"


@dataclass(frozen=True, slots=True)
class OnnxExport:
    """An ONNX file that was written and checked.

    Attributes:
        path: Where it is.
        verification: The comparison of the file, run in onnxruntime, with the unfused model; None
            where it was asked not to be made.
        dynamic_batch: Whether the file takes any batch size.
        nodes: How many nodes of each operator the file has.
        report: What happened to every batch norm.
    """

    path: Path
    verification: Verification | None
    dynamic_batch: bool
    nodes: dict[str, int]
    report: Report


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_batch: bool = True,
    verify: bool = True,
) -> OnnxExport:
    """Write a model to an ONNX file, optimized, and compare the file with the unfused model.

    The file is written under a temporary name and renamed once it has passed its checks, so that a
    failed export leaves what stood at ``path`` as it was.

    Args:
        model: The model in eval mode, or what ``optimize`` returned for it. The former is
            optimized first and is the reference of the check; the latter is its own reference.
        path: Where to write, ending in ``.onnx``.
        example_inputs: Positional arguments of a call.
        example_kwargs: Keyword arguments of that call.
        dynamic_batch: Leave the first axis of every input open. Where the model fixes it, the
            file is written with the example's batch size and says so in ``dynamic_batch``.
        verify: Whether to run the file in onnxruntime and compare, at the example's batch size
            and, where it is open, at another.

    Raises:
        RequestError: The model is not one that ``optimize`` takes.
        ExportError: The file cannot be written or is not right.
        MissingDependencyError: onnx, onnxscript or onnxruntime is not installed.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise RequestError(f"{target} does not end in .onnx: name the file like net.onnx.")
    for module in ("onnx", "onnxscript", *(["onnxruntime"] if verify else [])):
        require(module, "to export ONNX")
    args = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    call: Arguments = (args, dict(example_kwargs or {}))
    with atomic_file(target) as temporary:
        optimized = model if _is_optimized(model) else optimize(model)
        made = report(optimized)
        proto, is_dynamic = _converted(optimized, call, dynamic_batch)
        _describe(proto, made)
        _save_checked(proto, temporary)
        outcome = None
        if verify:
            outcome = replace(_verified(model, temporary, call, is_dynamic), candidate=target.name)
            outcome.raise_if_failed()
    nodes = dict(Counter(node.op_type for node in proto.graph.node).most_common())
    return OnnxExport(target, outcome, is_dynamic, nodes, made)


def read_report(path: str | os.PathLike[str]) -> Report:
    """Return the report that ``export_onnx`` put into a file.

    Raises:
        RequestError: There is no such file, it is no ONNX file, or bnfuse did not write it.
        MissingDependencyError: onnx is not installed.
    """
    onnx = require("onnx", "to read ONNX files")
    target = Path(path)
    if not target.is_file():
        raise RequestError(f"there is no file {target}: check the path.")
    try:
        proto = onnx.load(target, load_external_data=False)
    except Exception as error:
        raise RequestError(f"{target} is no ONNX file: {type(error).__name__}.") from error
    found = {entry.key: entry.value for entry in proto.metadata_props}
    if REPORT_KEY not in found:
        raise RequestError(
            f"{target} carries no report, it was not written by bnfuse: "
            "only files from bnfuse.export_onnx do."
        )
    return Report.from_dict(json.loads(found[REPORT_KEY]))


def _is_optimized(model: nn.Module) -> bool:
    try:
        report(model)
    except RequestError:
        return False
    return True


def _converted(optimized: nn.Module, call: Arguments, dynamic_batch: bool) -> tuple[Any, bool]:
    """Return the model as an ONNX protobuf, and whether its batch size is open."""
    if dynamic_batch:
        try:
            return _convert(optimized, call, _batch_axes(optimized, call)), True
        except Exception:  # noqa: BLE001 - whatever stands in the way, the fixed size may still do
            logging.getLogger(__name__).info("batch size is fixed by the model", exc_info=True)
    try:
        return _convert(optimized, call, None), False
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        raise ExportError(
            f"torch.onnx cannot convert {type(optimized).__name__} "
            f"({type(error).__name__}: {first_line}): "
            "torch.onnx.export(model, args, dynamo=True, report=True) writes the details."
        ) from error


def _convert(optimized: nn.Module, call: Arguments, dynamic_shapes: Any) -> Any:
    args, kwargs = call
    with _quiet(), torch.no_grad():
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
        raise ExportError("torch.onnx returned nothing")
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


def _describe(proto: Any, made: Report) -> None:
    """Replace the exporter's notes, which hold paths of this machine, by the report."""
    from bnfuse import __version__

    graphs = [proto.graph, *proto.functions]
    for graph in graphs:
        for noted in _noted(graph):
            del noted.metadata_props[:]
            noted.doc_string = ""
    del proto.metadata_props[:]
    for key, value in ((VERSION_KEY, __version__), (REPORT_KEY, json.dumps(made.to_dict()))):
        proto.metadata_props.add(key=key, value=value)
    proto.producer_name, proto.producer_version = "bnfuse", __version__


def _noted(graph: Any) -> Iterator[Any]:
    """Yield everything in a graph or function that can carry notes."""
    yield graph
    for name in ("node", "value_info", "input", "output", "initializer"):
        for entry in getattr(graph, name, ()):
            if not isinstance(entry, str):
                yield entry


def _save_checked(proto: Any, path: Path) -> None:
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


def _verified(model: nn.Module, path: Path, call: Arguments, is_dynamic: bool) -> Verification:
    """Compare the file with the model at the example's batch size and at another."""
    at_example = compare(model, path, *call)
    if not is_dynamic:
        return at_example
    resized = map_tensors(_resized, call)
    at_other = compare(model, path, *resized)
    outputs = [replace(o, name=f"{o.name}, example's batch") for o in at_example.outputs]
    outputs += [replace(o, name=f"{o.name}, batch {OTHER_BATCH}") for o in at_other.outputs]
    sets = at_example.input_sets + at_other.input_sets
    return replace(at_example, outputs=tuple(outputs), input_sets=sets)


def _resized(tensor: Tensor) -> Tensor:
    """Return a tensor with another batch size, its entries repeated from the given one."""
    if not tensor.ndim:
        return tensor
    return tensor[torch.arange(OTHER_BATCH) % len(tensor)]


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporter's remarks about its own internals from the user's terminal."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "onnxscript", "onnx_ir")]
    levels = [logger.level for logger in loggers]
    try:
        for logger in loggers:
            logger.setLevel(logging.ERROR)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
