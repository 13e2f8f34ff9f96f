"""Write a TensorRT engine, and check it as far as this machine can."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.capture import check_example
from bnfuse.errors import RequestError
from bnfuse.export.atomic import atomic_file
from bnfuse.export.onnx import write_onnx
from bnfuse.export.options import ExportOptions, OnnxOptions
from bnfuse.export.prepare import is_optimized
from bnfuse.export.sizes import BATCHES, compared
from bnfuse.export.summary import batch, summary
from bnfuse.export.tensorrt_build import build
from bnfuse.export.tensorrt_facts import beside, facts_of
from bnfuse.export.tensorrt_library import capability_here, find_library
from bnfuse.export.tensorrt_ranges import LARGEST_BATCH, ranges_of
from bnfuse.validation.inputs import floating_dtype

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from torch import nn

    from bnfuse.export.tensorrt_build import Built, Port
    from bnfuse.report import Report
    from bnfuse.validation import Verification
    from bnfuse.validation.inputs import Arguments

SUFFIXES = (".engine", ".plan")
"""What names of engines end in; the second is what Triton Inference Server looks for."""
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


@dataclass(frozen=True, slots=True)
class TensorrtOptions(ExportOptions):
    """How to write an engine.

    Attributes:
        compute_capabilities: The GPUs to build for; None for those the library builds for.
        largest_batch: The largest batch to build for where no bound is given.
    """

    compute_capabilities: Sequence[Any] | None = None
    largest_batch: int = LARGEST_BATCH

    def for_graph(self, given: torch.dtype) -> OnnxOptions:
        """Return how to write the ONNX file that an engine is built from.

        Args:
            given: The dtype of the model.

        Raises:
            RequestError: TensorRT does not compute in that dtype.
        """
        computed = self.dtype or given
        if computed not in _DTYPES:
            raise RequestError(
                f"TensorRT does not compute in {computed}: pass dtype=torch.float16 or "
                "torch.bfloat16, or a model in torch.float32."
            )
        can_run = computed != torch.bfloat16  # in onnxruntime, on a CPU
        return OnnxOptions(self.dynamic_batch, self.dynamic_shapes, self.dtype, can_run, self.skip)


@dataclass(frozen=True, slots=True)
class TensorrtExport:
    """An engine that was written.

    Attributes:
        path: Where it is; the file beside it, ``net.engine.json``, says what can load it.
        verification: The comparison of the engine, run on the GPU here, with the unfused model;
            None where this machine cannot run it.
        graph_verification: The comparison of the graph that the engine was built from, run in
            onnxruntime; None in bfloat16, which onnxruntime does not run on a CPU.
        note: What of that was not checked, and why; empty where the engine was run.
        layers: How many layers of each kind the network had that the library optimized.
        seconds: How long parsing and building took.
        built_by: The library and its version.
        compute_capabilities: The GPUs it runs on.
        dynamic_batch: Whether it takes more than one batch size.
        report: What happened to every batch norm.
    """

    path: Path
    verification: Verification | None
    graph_verification: Verification | None
    note: str
    layers: dict[str, int]
    seconds: float
    built_by: str
    compute_capabilities: tuple[str, ...]
    dynamic_batch: bool
    report: Report

    def __str__(self) -> str:
        facts = [f"{sum(self.layers.values())} layers", f"built by {self.built_by}"]
        facts += [f"for compute capability {', '.join(self.compute_capabilities)}"]
        facts += ["several batch sizes" if self.dynamic_batch else batch(False)]
        checks = [self.verification, self.graph_verification]
        return summary(self.path, facts, checks, self.note, self.report)


def export_tensorrt(
    model: nn.Module,
    path: str | os.PathLike[str],
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    dtype: torch.dtype | None = None,
    compute_capabilities: Sequence[Any] | None = None,
) -> TensorrtExport:
    """Build a TensorRT engine of a model, optimized, and compare what can be run of it.

    The graph that the engine is built from is run in onnxruntime and compared with the unfused
    model; the engine itself is run and compared where there is a GPU that it was built for, and
    otherwise ``.note`` says that it was not. The files are renamed once all checks have passed, so
    that a failed export leaves what stood at ``path`` as it was. The same call
    builds from the same graph, byte for byte, whose digest stands beside the engine. So are the
    bytes of most engines of ``tensorrt_rtx``, which numbers the values inside some networks in
    another order each time; ``tensorrt`` picks kernels by timing them.

    Args:
        model: The model in eval mode, or what ``optimize`` returned for it.
        path: Where to write, ending in ``.engine`` or ``.plan``.
        example_inputs: Positional arguments of a call; the engine is to be fastest at their sizes.
        example_kwargs: Keyword arguments of that call.
        dynamic_shapes: The sizes to leave open, as ``torch.export.export`` takes them, with bounds:
            ``{"x": {0: Dim("batch", max=64)}}``. By default the first axis of every input, from 1
            to 32 or the example's size, whichever is larger, where the model allows it.
        dtype: ``torch.float16`` or ``torch.bfloat16`` for an engine in that dtype, as in
            ``optimize``: its inputs and outputs are in it too. Float32 is computed without TF32.
        compute_capabilities: The GPUs to build for, such as ``("8.6", "8.9")``; by default the one
            in this machine with ``tensorrt``, and all from 8.0 on with ``tensorrt_rtx``.

    Raises:
        RequestError: The model is not one that ``optimize`` takes, or an option does not fit it.
        ExportError: The library does not take the model, or a file cannot be written.
        VerificationError: The graph, or the engine, does not compute what the model computes.
        MissingDependencyError: Neither ``tensorrt`` nor ``tensorrt_rtx`` is installed, or onnx,
            onnxscript or onnxruntime is not.
    """
    options = TensorrtOptions(
        dynamic_batch=dynamic_shapes is None,
        dynamic_shapes=dynamic_shapes,
        dtype=dtype,
        compute_capabilities=compute_capabilities,
    )
    optimized = model if is_optimized(model) else None
    call = check_example(example_inputs, example_kwargs)
    return write_tensorrt(model, optimized, path, call, options)


def write_tensorrt(
    unfused: nn.Module,
    optimized: nn.Module | None,
    path: str | os.PathLike[str],
    call: Arguments,
    options: TensorrtOptions | None = None,
) -> TensorrtExport:
    """Build an engine of an optimized model and compare it with the unfused one.

    Args:
        unfused: What the engine is compared with.
        optimized: What is built; made from ``unfused`` if None.
        path: Where to write.
        call: The arguments of an example call.
        options: How, as the arguments of ``export_tensorrt`` say.

    Raises:
        BnfuseError: As ``export_tensorrt`` does.
    """
    options = options or TensorrtOptions()
    target = Path(path)
    suffix = target.suffix if target.suffix in SUFFIXES else SUFFIXES[0]
    options.check(target, suffix, is_given=optimized is not None)
    graph_options = options.for_graph(floating_dtype(unfused, call))
    library = find_library()
    targets = library.chosen(options.compute_capabilities)
    ranges = ranges_of(unfused, call, options.dynamic_shapes, options.largest_batch)
    with atomic_file(target) as temporary, atomic_file(beside(target)) as facts_file:
        with tempfile.TemporaryDirectory() as folder:
            graph = write_onnx(unfused, optimized, Path(folder) / "net.onnx", call, graph_options)
            built = build(library, graph.path, ranges, targets)
        temporary.write_bytes(built.engine)
        facts_file.write_text(facts_of(built, library, targets, graph.report).to_json())
        note = _not_run(targets)
        found = None if note else _verified(unfused, temporary, facts_file, call, built)
        if found is not None:
            found = replace(found, candidate=target.name).raise_if_failed()
    if note and graph.verification is None:
        note += " Nor was the graph it was built from: onnxruntime has no bfloat16 on a CPU."
    return TensorrtExport(
        target,
        found,
        graph.verification,
        note,
        built.layers,
        built.seconds,
        library.described,
        targets,
        any(port.smallest[:1] != port.largest[:1] for port in built.inputs),
        graph.report,
    )


def _not_run(targets: tuple[str, ...]) -> str:
    """Return why the engine cannot be run here, or an empty string."""
    unchecked = "The engine's numbers were not checked on a device: "
    if not torch.cuda.is_available():
        return f"{unchecked}there is no NVIDIA GPU here."
    here = capability_here()
    if here not in targets:
        return f"{unchecked}the GPU here has compute capability {here}, and it is built for others."
    return ""


def _verified(
    model: nn.Module, engine: Path, facts_file: Path, call: Arguments, built: Built
) -> Verification:
    """Run the engine, under its temporary name, and compare it with the model."""
    named = beside(engine)
    named.write_text(facts_file.read_text())
    try:
        return compared(model, engine, call, [_batch_axis(port) for port in built.inputs])
    finally:
        named.unlink(missing_ok=True)


def _batch_axis(port: Port) -> dict[int, str]:
    """Return the first axis with its name, if it takes the batches that files are checked at."""
    lowest, highest = port.smallest[:1], port.largest[:1]
    is_open = lowest <= (min(BATCHES),) and highest >= (max(BATCHES),)
    return {0: "batch"} if lowest and is_open else {}
