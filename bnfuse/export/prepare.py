"""What every exporter does first: check the example, optimize the model, capture it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfuse.errors import RequestError
from bnfuse.export.program import captured
from bnfuse.export.sizes import OTHER_BATCH, with_batch
from bnfuse.optimizer import rewritten
from bnfuse.passes import PIPELINE, Pass
from bnfuse.report import report
from bnfuse.validation.inputs import cast_floating
from bnfuse.validation.obstacle import check_call, obstacle

if TYPE_CHECKING:
    from torch import nn

    from bnfuse.export.options import ExportOptions
    from bnfuse.export.program import Captured
    from bnfuse.report import Report
    from bnfuse.validation.inputs import Arguments


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model ready to be written.

    Attributes:
        captured: The optimized model as a program.
        report: What happened to every batch norm.
        source: The class of the model that was given, with its module.
    """

    captured: Captured
    report: Report
    source: str


def is_optimized(model: nn.Module) -> bool:
    """Whether ``optimize`` made a model."""
    try:
        report(model)
    except RequestError:
        return False
    return True


def prepared(
    unfused: nn.Module,
    optimized: nn.Module | None,
    call: Arguments,
    options: ExportOptions,
    smallest_batches: tuple[int, ...] = (1,),
    pipeline: tuple[Pass, ...] = PIPELINE,
) -> Prepared:
    """Optimize a model, unless that is done, and capture the result.

    Args:
        unfused: The model as it was given.
        optimized: What ``optimize`` made of it; None to do so.
        call: The arguments of an example call.
        options: How it is to be written.
        smallest_batches: As in ``captured``.
        pipeline: The passes to run.

    Raises:
        RequestError: It cannot run on the example, or is none that ``optimize`` takes.
        ExportError: It cannot be captured.
    """
    check_call(unfused, call)
    source = f"{type(unfused).__module__}.{type(unfused).__qualname__}"
    if optimized is None:
        optimized = rewritten(
            unfused, *call, skip=options.skip, dtype=options.dtype, pipeline=pipeline
        )
    made = report(optimized)
    is_open = options.dynamic_batch and options.dynamic_shapes is None
    is_open = is_open and not obstacle(unfused, with_batch(call, OTHER_BATCH))
    if options.dtype is not None:
        call = cast_floating(call, options.dtype)
    program = captured(
        optimized, call, is_open, options.dynamic_shapes, smallest_batches=smallest_batches
    )
    return Prepared(program, made, made.model if unfused is optimized else source)
