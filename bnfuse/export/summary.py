"""What an export prints: the file, what is known of it, how it was checked, what was folded."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.report.render import headline

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.report import Report
    from bnfuse.validation import Verification


def summary(
    path: Path, facts: list[str], checks: list[Verification | None], note: str, report: Report
) -> str:
    """Return a few lines, each about one thing.

    Args:
        path: What was written.
        facts: What is known of it.
        checks: The comparisons, None for one that was not made.
        note: What was not checked, and why.
        report: What happened to every batch norm.
    """
    lines = [f"{path}: {', '.join(facts)}", *(check.headline for check in checks if check)]
    if not any(checks):
        lines.append("not compared with the unfused model")
    return "\n".join([*lines, *([note] if note else []), headline(report)])


def batch(is_open: bool) -> str:
    """Return how a batch size is told.

    >>> batch(True), batch(False)
    ('any batch size', 'one batch size')
    """
    return "any batch size" if is_open else "one batch size"
