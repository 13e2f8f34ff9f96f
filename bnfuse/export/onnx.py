"""Write a deploy-ready ONNX file, and check it by running it."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bnfuse.capture import check_example
from bnfuse.errors import ExportError, RequestError
from bnfuse.export.onnx_file import converted, describe, name_values
from bnfuse.export.onnx_store import atomic_onnx, is_too_large, save_checked, write
from bnfuse.export.options import OnnxOptions
from bnfuse.export.prepare import is_optimized, prepared
from bnfuse.export.runtime import provider_names
from bnfuse.export.sizes import compared
from bnfuse.export.summary import batch, summary
from bnfuse.extras import require
from bnfuse.passes import ONNX_PIPELINE

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    import torch
    from torch import nn

    from bnfuse.export.onnx_store import OnnxDraft
    from bnfuse.export.program import Captured
    from bnfuse.report import Report
    from bnfuse.validation import Verification
    from bnfuse.validation.inputs import Arguments


@dataclass(frozen=True, slots=True)
class OnnxExport:
    """An ONNX file that was written and checked.

    Attributes:
        path: Where it is.
        data: The file beside it with its weights, where they are not in it.
        verification: The comparison of the file, run in onnxruntime, with the unfused model, whose
            ``device`` names the execution provider that ran it; None where it was asked not to be
            made.
        dynamic_batch: Whether the file takes any batch size.
        opset: The version of ONNX's operators that it is written in.
        nodes: How many nodes of each operator the file has.
        report: What happened to every batch norm.
    """

    path: Path
    data: Path | None
    verification: Verification | None
    dynamic_batch: bool
    opset: int
    nodes: dict[str, int]
    report: Report

    def __str__(self) -> str:
        facts = [f"{sum(self.nodes.values())} nodes", f"opset {self.opset}"]
        facts += [batch(self.dynamic_batch), *([f"weights in {self.data}"] if self.data else [])]
        return summary(self.path, facts, [self.verification], "", self.report)


def export_onnx(
    model: nn.Module,
    path: str | os.PathLike[str],
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_batch: bool = True,
    dynamic_shapes: Any = None,
    opset_version: int | None = None,
    dtype: torch.dtype | None = None,
    input_names: Sequence[str] | None = None,
    output_names: Sequence[str] | None = None,
    external_data: bool | str = "auto",
    verify: bool = True,
    providers: Sequence[Any] | None = None,
) -> OnnxExport:
    """Write a model to an ONNX file, optimized, and compare the file with the unfused model.

    The file is written under a temporary name and renamed once it has passed its checks, so that a
    failed export leaves what stood at ``path`` as it was. The same call writes the same bytes.

    Args:
        model: The model in eval mode, or what ``optimize`` returned for it. The former is
            optimized first and is the reference of the check; the latter is its own reference.
        path: Where to write, ending in ``.onnx``.
        example_inputs: Positional arguments of a call.
        example_kwargs: Keyword arguments of that call.
        dynamic_batch: Leave the first axis of every input open. Where the model fixes it, the
            file is written with the example's batch size and says so in ``dynamic_batch``.
        dynamic_shapes: The sizes to leave open instead, as ``torch.export.export`` takes them; a
            name, as in ``{"x": {0: "batch", 2: "height"}}``, will do for one.
        opset_version: The version of ONNX's operators; the exporter's own choice by default.
        dtype: ``torch.float16`` or ``torch.bfloat16`` for a file in that dtype, as in
            ``optimize``: its inputs and outputs are in it too.
        input_names: Names of the inputs, in the order of the tensors of a call; by default those
            of the forward's parameters.
        output_names: Names of the outputs.
        external_data: Whether to put the weights into a file of their own beside ``path``, whose
            name begins like it: ``True``, ``False``, or ``"auto"`` for where they are larger than
            one ONNX file can be, 2 GB.
        verify: Whether to run the file in onnxruntime and compare: at the example's sizes, and
            where they are open at batch sizes 1 and 3, all other open ones twice as large.
        providers: Execution providers of onnxruntime for that, in order, as its
            ``InferenceSession`` takes them. By default CUDA where onnxruntime and PyTorch both
            have it, else the CPU. The first one has to run the file.

    Raises:
        RequestError: The model is not one that ``optimize`` takes, or an option does not fit it.
        ExportError: The file cannot be written or is not right.
        VerificationError: It does not compute what the model computes.
        MissingDependencyError: onnx, onnxscript or onnxruntime is not installed.
    """
    options = OnnxOptions(
        dynamic_batch=dynamic_batch,
        dynamic_shapes=dynamic_shapes,
        opset_version=opset_version,
        dtype=dtype,
        input_names=input_names,
        output_names=output_names,
        external_data=external_data,
        verify=verify,
        providers=providers,
    )
    optimized = model if is_optimized(model) else None
    return write_onnx(
        model, optimized, path, check_example(example_inputs, example_kwargs), options
    )


def write_onnx(
    unfused: nn.Module,
    optimized: nn.Module | None,
    path: str | os.PathLike[str],
    call: Arguments,
    options: OnnxOptions | None = None,
) -> OnnxExport:
    """Write an optimized model to a file that is compared with the unfused one.

    Args:
        unfused: What the file is compared with.
        optimized: What is written; made from ``unfused`` if None.
        path: Where to write.
        call: The arguments of an example call.
        options: How, as the arguments of ``export_onnx`` say.

    Raises:
        BnfuseError: As ``export_onnx`` does.
    """
    options = options or OnnxOptions()
    target = Path(path)
    options.check(target, ".onnx", is_given=optimized is not None)
    for module in ("onnxscript", *(["onnxruntime"] if options.verify else [])):
        require(module, "to export ONNX")
    options.check_onnx(require("onnx", "to export ONNX").defs.onnx_opset_version())
    if options.verify and options.providers is not None:
        provider_names(options.providers)  # one that is not there is known before any work
    with atomic_onnx(target) as draft:
        ready = prepared(unfused, optimized, call, options, (1, 2), ONNX_PIPELINE)
        model = converted(ready.captured, type(unfused).__name__, options.opset_version)
        name_values(model, options.input_names, options.output_names)
        proto = write(model, draft, options.puts_outside(is_too_large(model)))
        describe(proto, ready.report, ready.source)
        save_checked(proto, draft.path, target.name)
        found = None
        if options.verify:
            found = _verified(unfused, draft, call, ready.captured, options)
            if optimized is not None:
                found = replace(found, reference="optimized model given")
            found.raise_if_failed()
    nodes = dict(Counter(node.op_type for node in proto.graph.node).most_common())
    opset = next(entry.version for entry in proto.opset_import if not entry.domain)
    is_open = ready.captured.has_open_batch
    return OnnxExport(target, draft.data, found, is_open, opset, nodes, ready.report)


def _verified(
    model: nn.Module, draft: OnnxDraft, call: Arguments, made: Captured, options: OnnxOptions
) -> Verification:
    """Run the draft and compare; the user knows nothing of its temporary name."""
    try:
        found = compared(model, draft.path, call, made.open_axes, options.providers)
    except (ExportError, RequestError) as error:
        message = str(error).replace(str(draft.path), str(draft.target))
        raise ExportError(message) from error
    return replace(found, candidate=draft.target.name)
