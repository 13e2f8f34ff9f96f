"""Optimize a model, check what came of it, and try again without what was wrong.

An attempt starts from the caller's model every time, so that nothing has to be undone in a graph.
What went wrong in it is left out of the next one: a rewrite that failed its check, a fold along
an axis that the example shows to be another, and, where the whole differs from the unfused model
though every rewrite passed, the first rewrite that makes it differ, found by bisection.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import torch

from bnfuse.affine import forget, round_all
from bnfuse.capture import copy_model
from bnfuse.errors import AssumptionError, RequestError
from bnfuse.graph.part import has_guard, part_forward
from bnfuse.memory import collecting_rarely
from bnfuse.outcomes import previous_report, undone_row, unfused
from bnfuse.passes import PIPELINE, Pass
from bnfuse.regions import BrokenRewriteError, RewriteChecks, RewriteKey
from bnfuse.report.inventory import summed
from bnfuse.report.report import attach
from bnfuse.rewriting import TreeRewriter
from bnfuse.validation import OutputError, Verification, verify
from bnfuse.validation.inputs import cast_floating, map_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import nn

    from bnfuse.validation.inputs import Arguments

MOST_ATTEMPTS = 16
MOST_CULPRITS = 8


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be optimized, and how.

    Attributes:
        model: The caller's model; it is copied, not changed.
        is_skipped: Whether a layer, given by name, is to be left alone.
        example: The arguments of a call, or None.
        dtype: What to round every floating-point tensor to, once, after folding; None to keep.
        is_checked: Whether each rewrite is checked.
        is_verified: Whether the whole is checked as well, on the example.
        pipeline: The passes to run.
    """

    model: nn.Module
    is_skipped: Callable[[str], bool]
    example: Arguments | None = None
    dtype: torch.dtype | None = None
    is_checked: bool = True
    is_verified: bool = True
    pipeline: tuple[Pass, ...] = PIPELINE

    @property
    def call(self) -> Arguments | None:
        """The example as the optimized model takes it."""
        if self.example is None or self.dtype is None:
            return self.example
        return cast_floating(self.example, self.dtype)


@dataclass(frozen=True, slots=True)
class Known:
    """What earlier attempts have shown.

    Attributes:
        other_axis: Batch norms that normalize another axis than their neighbour's channels.
        suspects: Rewrites whose check is to take rounding into account.
        refused: Rewrites that are wrong, and how that shows.
        only: The rewrites that a trial is to make; None for all.
    """

    other_axis: frozenset[str] = frozenset()
    suspects: frozenset[RewriteKey] = frozenset()
    refused: dict[RewriteKey, str] = field(default_factory=dict)
    only: frozenset[RewriteKey] | None = None

    def after(self, failed: dict[RewriteKey, str]) -> Known:
        """Return what is known after some rewrites failed; at first they are only suspected."""
        wrong = {key: why for key, why in failed.items() if key in self.suspects}
        return replace(
            self, suspects=self.suspects | failed.keys(), refused={**self.refused, **wrong}
        )


@dataclass(frozen=True, slots=True)
class Attempt:
    """An optimized copy, and what its checks found."""

    module: nn.Module
    checks: RewriteChecks


def optimized(request: Request) -> nn.Module:
    """Return the optimized copy of a model, checked, with its report."""
    known, attempt = _settled(request, Known())
    if request.example is None or not request.is_verified:
        return attempt.module
    for _ in range(MOST_CULPRITS):
        outcome = _verified(request, attempt)
        if outcome.passed:
            return attempt.module
        culprit = _culprit(request, known, list(attempt.checks.made))
        if culprit is None:
            break
        known = replace(known, refused={**known.refused, culprit: outcome.headline})
        known, attempt = _settled(request, known)
    return unfused(request.model, request.dtype, outcome.headline)


def _settled(request: Request, known: Known) -> tuple[Known, Attempt]:
    """Attempt until nothing is wrong with single rewrites."""
    failures = 0
    while failures < MOST_ATTEMPTS:
        try:
            attempt = _attempt(request, known)
        except BrokenRewriteError as broken:
            known = replace(known, refused={**known.refused, broken.key: str(broken)})
            failures += 1
            continue
        site = _site_in_the_way(attempt.module, request.call)
        if site is not None and site not in known.other_axis:
            known = replace(known, other_axis=known.other_axis | {site})
        elif attempt.checks.failed:
            known = known.after(attempt.checks.failed)
            failures += 1
        else:
            return known, attempt
    why = "; ".join(f"{key.site}: {why}" for key, why in known.refused.items())
    return known, Attempt(unfused(request.model, request.dtype, why), RewriteChecks())


@collecting_rarely()
def _attempt(request: Request, known: Known) -> Attempt:
    """Return an optimized copy of the model, with its report."""
    copied = copy_model(request.model)
    if request.dtype is not None:
        if copied.by_reference:
            raise RequestError(
                f"{type(request.model).__name__} has a part that cannot be copied, so it cannot be "
                f"converted to {request.dtype}: optimize it without dtype."
            )
        round_all(copied.model, request.dtype)
    checks = RewriteChecks(known.refused, known.only, known.suspects, request.is_checked)
    rewriter = TreeRewriter(
        copied.model,
        request.model,
        copied.by_reference,
        request.is_skipped,
        known.other_axis,
        request.call,
        checks,
        pipeline=request.pipeline,
    )
    module = rewriter.whole()
    for tensor in [*module.parameters(), *module.buffers()]:
        forget(tensor)
    outcomes = list(rewriter.outcomes.values())
    made = summed(type(request.model).__name__, outcomes, previous_report(request.model))
    seconds = checks.seconds if request.is_checked else None
    undone = tuple(undone_row(key, why) for key, why in known.refused.items())
    attach(module, replace(made, undone=undone, check_seconds=seconds))
    return Attempt(module, checks)


def _site_in_the_way(module: nn.Module, example: Arguments | None) -> str | None:
    """Return the batch norm whose fold does not stand for an example call, if there is one."""
    if example is None or not has_guard(module):
        return None
    args, kwargs = map_tensors(torch.clone, example)  # a forward may write its inputs
    trial = copy_model(module).model
    try:
        with torch.no_grad(), torch.random.fork_rng():
            trial(*args, **kwargs)
    except AssumptionError as error:
        return error.site
    except Exception:
        return None  # whatever else is wrong with the example is said by whoever needs it
    return None


def _verified(request: Request, attempt: Attempt) -> Verification:
    """Compare an attempt with the unfused model on the example.

    Raises:
        RequestError: The unfused model cannot run on it.
    """
    args, kwargs = request.example or ((), {})
    place = _place_of_example(attempt.module)
    try:
        return verify(request.model, attempt.module, args, kwargs, device=place)
    except RequestError:
        raise
    except Exception as error:  # the unfused model ran on the example, or it were that error
        found = f"{type(error).__name__}: {error}"
        output = OutputError("outputs", 0.0, 0.0, 0.0, 0.0, complaint=f"it raises {found}")
        return Verification(type(attempt.module).__name__, "unfused model", "cpu", 1, (output,))


def _culprit(request: Request, known: Known, made: Sequence[RewriteKey]) -> RewriteKey | None:
    """Return the first rewrite after which the outputs differ; None where they do without any."""
    unchecked = replace(request, is_checked=False)

    def is_right(count: int) -> bool:
        try:
            attempt = _attempt(unchecked, replace(known, only=frozenset(made[:count])))
        except BrokenRewriteError:
            return False
        return _verified(request, attempt).passed

    if not is_right(0):
        return None
    right, wrong = 0, len(made)
    while wrong - right > 1:
        middle = (right + wrong) // 2
        if is_right(middle):
            right = middle
        else:
            wrong = middle
    return made[right] if made else None


def _place_of_example(module: nn.Module) -> torch.device | None:
    """Return the device that graphs made for an example stand for; None where there are none."""
    for inner in module.modules():
        forward = part_forward(inner)
        if forward is not None and forward.assumptions.hold_for_one_shape:
            return next((tensor.device for tensor in inner.parameters()), None)
    return None
