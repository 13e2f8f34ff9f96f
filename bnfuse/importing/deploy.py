"""From an ONNX file to an optimized ONNX file that computes the same."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfuse.capture import check_example
from bnfuse.errors import ExportError
from bnfuse.export.atomic import atomic_file
from bnfuse.export.onnx import OnnxExport, write_onnx
from bnfuse.export.options import OnnxOptions
from bnfuse.export.sizes import compared
from bnfuse.extras import require
from bnfuse.importing.convert import Imported, imported
from bnfuse.importing.example import example_of
from bnfuse.importing.names import identifier

if TYPE_CHECKING:
    import os
    from collections.abc import Sequence

    from bnfuse.importing.file import OnnxFile
    from bnfuse.validation.inputs import Arguments

_OLDEST_WRITTEN = 18  # what torch.onnx writes without converting afterwards


def optimize_onnx(
    source: str | os.PathLike[str],
    path: str | os.PathLike[str],
    example_inputs: Sequence[Any] | None = None,
    *,
    skip: Sequence[str] = (),
    verify: bool = True,
    providers: Sequence[Any] | None = None,
) -> OnnxExport:
    """Write an optimized ONNX file from another, each run in onnxruntime and compared.

    The result has the inputs, outputs, names, open sizes and metadata of the source, and its opset,
    18 at least. First the source is run against the graph it is converted to, then what is written
    against the same, in float64: at the example's sizes, and where they are open at others.

    Args:
        source: The file to read, of opset 13 to 23.
        path: Where to write, ending in ``.onnx``; it may be the source.
        example_inputs: Inputs of a call. By default they are drawn in the declared shapes, where
            all sizes but those of batches are declared.
        skip: Layers to leave alone, as in ``optimize``.
        verify: Whether to run both files and compare.
        providers: As in ``export_onnx``.

    Raises:
        RequestError: The source cannot be read or converted, or an argument does not fit it.
        ExportError: The result cannot be written or is not right, or the conversion is not.
        VerificationError: The result does not compute what the source does.
        MissingDependencyError: onnx, onnxscript or onnxruntime is not installed.
    """
    return optimize_imported(
        imported(source), path, example_inputs, skip=skip, verify=verify, providers=providers
    )


def optimize_imported(
    read: Imported,
    path: str | os.PathLike[str],
    example_inputs: Sequence[Any] | None = None,
    *,
    skip: Sequence[str] = (),
    verify: bool = True,
    providers: Sequence[Any] | None = None,
) -> OnnxExport:
    """Do what ``optimize_onnx`` does with a file that is read already.

    Raises:
        BnfuseError: As ``optimize_onnx`` does.
    """
    options = OnnxOptions(
        dynamic_batch=False,
        dynamic_shapes=_open_shapes(read),
        opset_version=max(_OLDEST_WRITTEN, read.file.opset),
        input_names=list(read.file.inputs),
        output_names=[output.name for output in read.file.proto.graph.output],
        verify=verify,
        skip=skip,
        providers=providers,
    )
    options.check(Path(path), ".onnx", is_given=False)  # before any work
    drawn = example_of(read.file) if example_inputs is None else example_inputs
    call = check_example(drawn, None)
    if verify:
        _check_conversion(read, call, providers)
    done = write_onnx(read.module, None, path, call, options)
    _carry_metadata(read.file, done.path)
    if done.verification is None:
        return done
    named = replace(done.verification, reference=f"graph of {read.file.path.name} in float64")
    return replace(done, verification=named)


def _check_conversion(read: Imported, call: Arguments, providers: Sequence[Any] | None) -> None:
    """Run the source itself against the graph it was converted to."""
    axes = [_open_axes(read.file, name) for name in read.file.inputs]
    found = compared(read.module, read.file.path, call, axes, providers)
    if not found.passed:
        raise ExportError(
            f"bnfuse reads {read.file.path} otherwise than onnxruntime does ({found.headline}): "
            "please report the file; nothing is written."
        )


def _open_shapes(read: Imported) -> dict[str, Any] | None:
    """Return the sizes to leave open as ``torch.export`` takes them."""
    arguments = [str(n.target) for n in read.module.graph.nodes if n.op == "placeholder"]
    axes = [_open_axes(read.file, name) or None for name in read.file.inputs]
    return dict(zip(arguments, axes, strict=True)) if any(axes) else None


def _open_axes(file: OnnxFile, name: str) -> dict[int, str]:
    """Return the open axes of an input with their names, made up where there are none."""
    declared = file.inputs[name]
    return {
        axis: identifier(declared.names[axis]) if declared.names[axis] else _made_up(name, axis)
        for axis, size in enumerate(declared.dims or ())
        if size is None
    }


def _made_up(name: str, axis: int) -> str:
    return "batch" if axis == 0 else f"{identifier(name)}_{axis}"


def _carry_metadata(file: OnnxFile, path: Path) -> None:
    """Add what the source tells about itself, such as the names of classes."""
    told = {entry.key: entry.value for entry in file.proto.metadata_props}
    onnx = require("onnx", "to export ONNX")
    proto = onnx.load(path, load_external_data=False)
    known = {entry.key for entry in proto.metadata_props}
    added = [key for key in told if key not in known]
    for key in added:
        proto.metadata_props.add(key=key, value=told[key])
    if added:
        with atomic_file(path) as temporary:
            temporary.write_bytes(proto.SerializeToString(deterministic=True))
