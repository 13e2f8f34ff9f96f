"""Write a model into a Triton Inference Server model repository."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from bnfuse.capture import check_example
from bnfuse.errors import RequestError
from bnfuse.export import triton_model
from bnfuse.export.onnx import write_onnx
from bnfuse.export.options import OnnxOptions
from bnfuse.export.prepare import is_optimized
from bnfuse.export.summary import summary
from bnfuse.export.tensorrt import TensorrtOptions, write_tensorrt
from bnfuse.export.tensorrt_facts import read_facts
from bnfuse.export.triton_config import (
    FILES,
    ServingOptions,
    as_text,
    model_config,
    of_engine,
    of_onnx,
)
from bnfuse.export.triton_repository import new_version as new_version_of
from bnfuse.extras import require
from bnfuse.validation.inputs import floating_dtype

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from torch import nn

    from bnfuse.export.onnx import OnnxExport
    from bnfuse.export.tensorrt import TensorrtExport
    from bnfuse.report import Report
    from bnfuse.validation import Verification
    from bnfuse.validation.inputs import Arguments


@dataclass(frozen=True, slots=True)
class TritonExport:
    """A version of a model in a repository.

    Attributes:
        path: The model's folder, with ``config.pbtxt`` and the versions.
        version: The version that was written.
        backend: What runs it.
        config: The configuration that holds, as text.
        is_config_new: Whether it was written; that of a live model stays as it is.
        verification: The comparison of the model's file with the unfused model; None for an engine
            that cannot be run here.
        note: What was not checked, and why. The repository itself is not served.
        report: What happened to every batch norm.
    """

    path: Path
    version: int
    backend: str
    config: str
    is_config_new: bool
    verification: Verification | None
    note: str
    report: Report

    def __str__(self) -> str:
        facts = [f"version {self.version}", f"run by {self.backend}"]
        return summary(self.path, facts, [self.verification], self.note, self.report)


def export_triton(
    model: nn.Module,
    repository: str | os.PathLike[str],
    name: str,
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    backend: str = "onnxruntime",
    max_batch_size: int = 32,
    dynamic_shapes: Any = None,
    dtype: torch.dtype | None = None,
    compute_capabilities: Sequence[Any] | None = None,
    preferred_batch_sizes: Sequence[int] = (),
    max_queue_delay_us: int = 100,
    instances: int = 1,
    kind: str = "auto",
    versions: int = 1,
    warm_up: bool = True,
    new_version: bool = False,
) -> TritonExport:
    """Write a model, optimized, into a Triton Inference Server model repository.

    The configuration is made as Triton's own ``ModelConfig`` message and read back from its text.
    The version is put into the repository once its file has been run and compared, so that a failed
    export leaves the repository as it was and a server sees a version whole or not at all.

    Args:
        model: The model in eval mode, or what ``optimize`` returned for it.
        repository: The folder of all models; made if it is missing.
        name: The model's name, by which clients ask for it.
        example_inputs: Positional arguments of a call.
        example_kwargs: Keyword arguments of that call.
        backend: ``"onnxruntime"`` for an ONNX file, ``"tensorrt"`` for an engine, which Triton
            serves with the very version of TensorRT that built it, so build it with ``tensorrt`` on
            a GPU like the server's; or ``"python"``, which runs the ONNX file in the onnxruntime
            of the server's Python, for servers that have no other backend.
        max_batch_size: The largest batch that Triton makes of waiting requests; 0 to keep each
            request to itself, its shape with the batch axis.
        dynamic_shapes: The sizes to leave open, as in ``export_onnx`` and ``export_tensorrt``; by
            default the first axis.
        dtype: ``torch.float16`` or ``torch.bfloat16``, as in ``optimize``; the latter for engines
            alone.
        compute_capabilities: The GPUs to build an engine for, as in ``export_tensorrt``.
        preferred_batch_sizes: Batches that are run at once rather than waited with.
        max_queue_delay_us: How long, in microseconds, a request may wait for others to join it.
        instances: How many copies of the model run at once, on each device.
        kind: ``"gpu"``, ``"cpu"``, or ``"auto"`` for a GPU where the server has one.
        versions: How many of the newest versions are served at once.
        warm_up: Whether each instance answers made-up requests, of one sample and of
            ``max_batch_size``, before it counts as ready.
        new_version: Whether the model may be there already: then this is one more version of it,
            and its configuration stays as it is.

    Raises:
        RequestError: The model is not one that ``optimize`` takes, an option does not fit it, or
            the name is taken.
        ExportError: The model cannot be converted, or the repository cannot be written.
        VerificationError: The file does not compute what the model computes.
        MissingDependencyError: tritonclient, or what the backend's file takes, is not installed.
    """
    batches = max_batch_size, preferred_batch_sizes, max_queue_delay_us
    options = ServingOptions(backend, *batches, instances, kind, versions, warm_up)
    options.check()
    require("tritonclient.grpc", "to write a Triton model repository")
    call = check_example(example_inputs, example_kwargs)
    file = TensorrtOptions(
        dynamic_batch=dynamic_shapes is None,
        dynamic_shapes=dynamic_shapes,
        dtype=dtype,
        compute_capabilities=compute_capabilities,
        largest_batch=max(1, max_batch_size),
    )
    if backend != "tensorrt":
        _check_onnx(file, dtype or floating_dtype(model, call))
    return _write(model, Path(repository), name, call, options, file, beside_live=new_version)


def _check_onnx(file: TensorrtOptions, computed: torch.dtype) -> None:
    """Refuse what an ONNX file cannot be."""
    if computed == torch.bfloat16:
        raise RequestError(
            "onnxruntime does not run bfloat16 on every device: pass dtype=torch.float16, or "
            "backend='tensorrt'."
        )
    if file.compute_capabilities is not None:
        raise RequestError("compute_capabilities are those of engines: pass backend='tensorrt'.")


def _write(
    model: nn.Module,
    repository: Path,
    name: str,
    call: Arguments,
    options: ServingOptions,
    file: TensorrtOptions,
    *,
    beside_live: bool,
) -> TritonExport:
    """Write the version."""
    tensors = [leaf for leaf in pytree.tree_leaves(call) if isinstance(leaf, torch.Tensor)]
    with new_version_of(repository, name, beside_live=beside_live) as draft:
        target = draft.folder / FILES[options.backend]
        done, inputs, outputs = _model_file(model, target, call, options.backend, file)
        shapes = [tuple(tensor.shape) for tensor in tensors]
        config = model_config(name, inputs, outputs, shapes, options)
        content = as_text(config)
        is_new = draft.configure(config, content)
    kept = content if is_new else (draft.model / "config.pbtxt").read_text()
    return TritonExport(
        draft.model,
        draft.version,
        options.backend,
        kept,
        is_new,
        done.verification,
        getattr(done, "note", ""),
        done.report,
    )


def _model_file(
    model: nn.Module, target: Path, call: Arguments, backend: str, options: TensorrtOptions
) -> tuple[OnnxExport | TensorrtExport, list[Any], list[Any]]:
    """Write what the backend loads, and return it with its inputs and outputs."""
    optimized = model if is_optimized(model) else None
    if backend == "tensorrt":
        engine = write_tensorrt(model, optimized, target, call, options)
        return engine, *of_engine(read_facts(target))
    path = target.with_name(FILES["onnxruntime"])
    as_onnx = OnnxOptions(
        dynamic_batch=options.dynamic_batch,
        dynamic_shapes=options.dynamic_shapes,
        dtype=options.dtype,
    )
    done = write_onnx(model, optimized, path, call, as_onnx)
    if backend == "python":
        target.write_text(Path(triton_model.__file__).read_text())
    proto = require("onnx", "to export ONNX").load(path, load_external_data=False)
    return done, *of_onnx(proto)
