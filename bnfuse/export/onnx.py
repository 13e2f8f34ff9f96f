"""Write a deploy-ready ONNX file, and check it by running it."""

from __future__ import annotations

import io
import json
from collections import Counter
from contextlib import redirect_stderr
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.capture import copy_model
from bnfuse.errors import ExportError, RequestError
from bnfuse.export.atomic import atomic_file
from bnfuse.export.onnx_file import REPORT_KEY, converted, describe, save_checked
from bnfuse.extras import require
from bnfuse.optimizer import rewritten
from bnfuse.report import Report, report
from bnfuse.validation import Verification
from bnfuse.validation import verify as compare
from bnfuse.validation.inputs import map_tensors

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from torch import Tensor, nn

    from bnfuse.validation.inputs import Arguments

OTHER_BATCH = 3


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
    optimized = model if _is_optimized(model) else None
    args = (example_inputs,) if isinstance(example_inputs, torch.Tensor) else tuple(example_inputs)
    call: Arguments = (args, dict(example_kwargs or {}))
    return write_onnx(model, optimized, path, call, dynamic_batch=dynamic_batch, verify=verify)


def write_onnx(
    unfused: nn.Module,
    optimized: nn.Module | None,
    path: str | os.PathLike[str],
    call: Arguments,
    *,
    dynamic_batch: bool = True,
    verify: bool = True,
    skip: Sequence[str] = (),
) -> OnnxExport:
    """Write an optimized model to a file that is compared with the unfused one.

    Args:
        unfused: What the file is compared with.
        optimized: What is written; made from ``unfused`` if None.
        path: Where to write.
        call: The arguments of an example call.
        dynamic_batch: As in ``export_onnx``.
        verify: As in ``export_onnx``.
        skip: As in ``optimize``.

    Raises:
        BnfuseError: As ``export_onnx`` does.
    """
    target = Path(path)
    if target.suffix != ".onnx":
        raise RequestError(f"{target} does not end in .onnx: name the file like net.onnx.")
    for module in ("onnx", "onnxscript", *(["onnxruntime"] if verify else [])):
        require(module, "to export ONNX")
    with atomic_file(target) as temporary:
        if obstacle := _obstacle(unfused, call):
            raise RequestError(
                f"{type(unfused).__name__} cannot run on the example inputs "
                f"({type(obstacle).__name__}: {obstacle}): pass inputs that the model accepts."
            ) from obstacle
        reference = "unfused model in float64" if optimized is None else "optimized model given"
        if optimized is None:
            optimized = rewritten(unfused, *call, skip=skip)
        made = report(optimized)
        is_open = dynamic_batch and not _obstacle(unfused, map_tensors(_resized, call))
        proto, is_dynamic = converted(optimized, call, is_open)
        describe(proto, made)
        save_checked(proto, temporary)
        outcome = None
        if verify:
            try:
                found = _verified(unfused, temporary, call, is_dynamic)
            except RequestError as error:  # the user knows nothing of the temporary file
                raise ExportError(str(error).replace(str(temporary), str(target))) from error
            named = replace(found, candidate=target.name, reference=reference)
            outcome = named.raise_if_failed()
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
    try:
        return Report.from_dict(json.loads(found[REPORT_KEY]))
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{target} carries a report that this version of bnfuse cannot read "
            f"({type(error).__name__}: {error}): use the version that wrote it."
        ) from error


def _is_optimized(model: nn.Module) -> bool:
    try:
        report(model)
    except RequestError:
        return False
    return True


def _obstacle(model: nn.Module, call: Arguments) -> Exception | None:
    """Return what a call of the model raises, or None; the model is copied, not changed."""
    args, kwargs = map_tensors(torch.clone, call)  # a forward may write its inputs
    copied = copy_model(model).model
    try:  # graph modules print what they raise as well
        with torch.no_grad(), torch.random.fork_rng(), redirect_stderr(io.StringIO()):
            copied(*args, **kwargs)
    except Exception as error:
        return error
    return None


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
