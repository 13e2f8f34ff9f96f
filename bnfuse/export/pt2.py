"""Write a model as an archive of ``torch.export``, and load one."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.capture import check_example
from bnfuse.errors import BnfuseError, ExportError, RequestError, first_line
from bnfuse.export.archive import Archive
from bnfuse.export.atomic import atomic_file
from bnfuse.export.onnx_file import REPORT_KEY, SOURCE_KEY, VERSION_KEY
from bnfuse.export.options import ExportOptions
from bnfuse.export.prepare import is_optimized, prepared
from bnfuse.export.program import quiet
from bnfuse.export.sizes import compared
from bnfuse.export.stored_report import parsed_report
from bnfuse.export.summary import batch, summary
from bnfuse.importing.convert import load_onnx
from bnfuse.report.report import attach

if TYPE_CHECKING:
    import os
    from collections.abc import Mapping, Sequence

    from torch import nn

    from bnfuse.export.prepare import Prepared
    from bnfuse.report import Report
    from bnfuse.validation import Verification
    from bnfuse.validation.inputs import Arguments


@dataclass(frozen=True, slots=True)
class Pt2Export:
    """An archive that was written and checked.

    Attributes:
        path: Where it is.
        verification: The comparison of the archive, loaded, with the unfused model; None where it
            was asked not to be made.
        dynamic_batch: Whether it takes any batch size.
        report: What happened to every batch norm.
    """

    path: Path
    verification: Verification | None
    dynamic_batch: bool
    report: Report

    def __str__(self) -> str:
        facts = [batch(self.dynamic_batch)]
        return summary(self.path, facts, [self.verification], "", self.report)


def export_pt2(
    model: nn.Module,
    path: str | os.PathLike[str],
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_batch: bool = True,
    dynamic_shapes: Any = None,
    dtype: torch.dtype | None = None,
    verify: bool = True,
) -> Pt2Export:
    """Write a model to an archive of ``torch.export``, optimized, and compare it with the unfused.

    The archive is written under a temporary name, loaded, compared, and only then renamed: a failed
    export leaves what stood at ``path`` as it was. It holds no pickles.

    Args:
        model: The model in eval mode, or what ``optimize`` returned for it. The former is
            optimized first and is the reference of the check; the latter is its own reference.
        path: Where to write, ending in ``.pt2``.
        example_inputs: Positional arguments of a call.
        example_kwargs: Keyword arguments of that call.
        dynamic_batch: Leave the first axis of every input open. Where the model fixes it, the
            archive takes the example's batch size and says so in ``dynamic_batch``.
        dynamic_shapes: The sizes to leave open instead, as ``torch.export.export`` takes them.
        dtype: ``torch.float16`` or ``torch.bfloat16`` for an archive in that dtype.
        verify: Whether to load the archive and compare, at the sizes that ``export_onnx`` uses.

    Raises:
        RequestError: The model is not one that ``optimize`` takes, or an option does not fit it.
        ExportError: The archive cannot be written or is not right.
        VerificationError: It does not compute what the model computes.
    """
    options = ExportOptions(dynamic_batch, dynamic_shapes, dtype, verify)
    optimized = model if is_optimized(model) else None
    return write_pt2(model, optimized, path, check_example(example_inputs, example_kwargs), options)


def write_pt2(
    unfused: nn.Module,
    optimized: nn.Module | None,
    path: str | os.PathLike[str],
    call: Arguments,
    options: ExportOptions | None = None,
) -> Pt2Export:
    """Write an optimized model to an archive that is compared with the unfused one.

    Args:
        unfused: What the archive is compared with.
        optimized: What is written; made from ``unfused`` if None.
        path: Where to write.
        call: The arguments of an example call.
        options: How, as the arguments of ``export_pt2`` say.

    Raises:
        BnfuseError: As ``export_pt2`` does.
    """
    options = options or ExportOptions()
    target = Path(path)
    options.check(target, ".pt2", is_given=optimized is not None)
    with atomic_file(target) as temporary:
        ready = prepared(unfused, optimized, call, options)
        _save(ready, temporary, target)
        found = None
        if options.verify:
            found = _verified(unfused, temporary, target, call, ready)
            if optimized is not None:
                found = replace(found, reference="optimized model given")
            found.raise_if_failed()
    return Pt2Export(target, found, ready.captured.has_open_batch, ready.report)


def load(path: str | os.PathLike[str], *, allow_pickle: bool = False) -> nn.Module:
    """Load an archive of ``torch.export``, or an ONNX file, as a module.

    The module runs PyTorch's ordinary operators. Where bnfuse wrote the archive, ``bnfuse.report``
    gives its report. An ONNX file becomes a module that ``optimize`` takes, its layers named as in
    the file: ``bnfuse.importing.load_onnx`` says more.

    Args:
        path: The archive, ending in ``.pt2``, or the file, ending in ``.onnx``.
        allow_pickle: Whether to load an archive that can run code while it is loaded: one in which
            something is pickled, or a size is no plain arithmetic. Only for files you trust.

    Raises:
        RequestError: There is no such file, it is of another kind or damaged, or it can run code.
    """
    source = Path(path)
    if source.suffix == ".onnx":
        return load_onnx(source)
    if source.suffix != ".pt2":
        raise RequestError(
            f"{source} ends in neither .pt2 nor .onnx: load takes what export_pt2 and export_onnx "
            "write."
        )
    archive = Archive.of(source)
    archive.check_whole()
    if not allow_pickle:
        archive.check_inert()
    try:
        with quiet():
            module = torch.export.load(source).module()
    except Exception as error:  # a damaged archive can raise anything
        raise RequestError(
            f"torch.export cannot load {source} ({type(error).__name__}: {first_line(error)}): "
            "it is damaged, or was written by another version of torch."
        ) from error
    for inner in module.modules():
        inner.training = False  # exported modules refuse eval()
    module.requires_grad_(False)
    if (text := archive.extra(REPORT_KEY)) is not None:
        attach(module, parsed_report(text, source))
    return module


def _save(ready: Prepared, temporary: Path, target: Path) -> None:
    """Write the archive, and see that it can be loaded without running code."""
    from bnfuse import __version__

    rows = replace(ready.report, check_seconds=None).to_dict()
    extra = {REPORT_KEY: json.dumps(rows), VERSION_KEY: __version__, SOURCE_KEY: ready.source}
    try:
        with quiet():
            torch.export.save(ready.captured.program, temporary, extra_files=extra)
    except OSError:
        raise
    except Exception as error:  # a full disk among others, which torch's writer says in its own way
        raise ExportError(
            f"{target} could not be written ({type(error).__name__}: {first_line(error)})."
        ) from error
    try:
        Archive.of(temporary).check_inert()
    except RequestError as error:
        raise ExportError(str(error).replace(str(temporary), str(target))) from error


def _verified(
    model: nn.Module, temporary: Path, target: Path, call: Arguments, ready: Prepared
) -> Verification:
    """Load the archive and compare; the user knows nothing of its temporary name."""
    try:
        found = compared(model, temporary, call, ready.captured.open_axes)
    except BnfuseError as error:
        raise ExportError(str(error).replace(str(temporary), str(target))) from error
    return replace(found, candidate=target.name)
