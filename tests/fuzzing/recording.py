"""Count the rewrites that each pass of the pipeline makes while a model is optimized."""

from __future__ import annotations

import contextlib
from collections import Counter
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from bnfuse import attempts, rewriting
from bnfuse.passes import PIPELINE, run_pass

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from bnfuse.passes import Pass, PassReport
    from bnfuse.regions import PartChecks


def turns(pipeline: Sequence[Pass]) -> tuple[str, ...]:
    """Return a label for each pass of a pipeline: its name, and its turn if it has several."""
    names = [one.name for one in pipeline]
    labels = []
    for index, name in enumerate(names):
        turn = names[: index + 1].count(name)
        labels.append(f"{name}, turn {turn}" if names.count(name) > 1 else name)
    return tuple(labels)


PASSES = turns(PIPELINE)
"""The passes in the order they run."""


@contextlib.contextmanager
def recorded_rewrites() -> Iterator[Counter[str]]:
    """Count what is made inside by the label of its pass, in the attempt that is made last.

    That attempt is the one that is returned: what was wrong in earlier ones is not in it.
    """
    made: Counter[str] = Counter()
    attempt = attempts._attempt

    def attempt_anew(*given: Any) -> Any:
        made.clear()
        return attempt(*given)

    def run_and_count(program: Any, one: Pass, skips: Any, checks: PartChecks) -> PassReport:
        before = len(checks.checks.made)
        outcome = run_pass(program, one, skips, checks)
        label = next(label for label, each in zip(PASSES, PIPELINE, strict=True) if each is one)
        made[label] += len(checks.checks.made) - before
        return outcome

    with (
        patch.object(attempts, "_attempt", attempt_anew),
        patch.object(rewriting, "run_pass", run_and_count),
    ):
        yield made
