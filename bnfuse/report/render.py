"""The report as a table: for terminals, as plain text, as HTML."""

from __future__ import annotations

import io
from html import escape
from typing import TYPE_CHECKING

from rich.console import Console, Group
from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType

    from bnfuse.report.report import Report, Row

_COLUMNS = ("batch norm", "outcome", "into or why")
_TEXT_WIDTH = 110


def headline(report: Report) -> str:
    """Return the outcome in one sentence."""
    gone = len(report.folded) + len(report.merged)
    text = f"{report.model}: {gone} of {report.total} batch norms folded"
    if report.kept:
        text += f", {len(report.kept)} kept"
    if report.extra_bytes:
        text += f"; {report.extra_bytes / 1e6:.1f} MB of weights added for shared layers"
    if report.undone:
        count = len(report.undone)
        are = (
            "rewrites failed their check and were"
            if count > 1
            else "rewrite failed its check and was"
        )
        text += f"; {count} {are} undone"
    return text + "."


def as_table(report: Report, limit: int | None = None) -> RenderableType:
    """Return the report for a rich console.

    Args:
        report: The report.
        limit: The most rows of each outcome to show; the rest is counted.
    """
    table = Table(*_COLUMNS, box=None, header_style="bold", pad_edge=False)
    table.columns[0].overflow = "fold"
    for kind, rows in _outcomes(report):
        shown = rows if limit is None else rows[:limit]
        for row in shown:
            table.add_row(Text(_label(row)), kind, Text(_detail(row)))
        if len(shown) < len(rows):
            table.add_row(f"... and {len(rows) - len(shown)} more", kind, "")
    outcome = Text(headline(report), style="bold")
    return Group(outcome, table) if table.row_count else outcome


def as_text(report: Report) -> str:
    """Return the report as plain text."""
    stream = io.StringIO()
    # Neither FORCE_COLOR nor a notebook may take the text away from the stream or colour it.
    console = Console(file=stream, width=_TEXT_WIDTH, color_system=None, force_jupyter=False)
    console.print(as_table(report))
    return "\n".join(line.rstrip() for line in stream.getvalue().rstrip().splitlines())


def as_html(report: Report) -> str:
    """Return the report as an HTML table, for notebooks."""
    head = "".join(f"<th>{escape(column)}</th>" for column in _COLUMNS)
    body = "".join(
        f"<tr><td>{escape(_label(row))}</td><td>{outcome}</td><td>{escape(_detail(row))}</td></tr>"
        for outcome, rows in _outcomes(report)
        for row in rows
    )
    return (
        f"<p><b>{escape(headline(report))}</b></p>"
        f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
    )


def _outcomes(report: Report) -> Iterator[tuple[str, tuple[Row, ...]]]:
    """Yield the groups of rows, what needs attention first."""
    yield "undone", report.undone
    yield "kept", report.kept
    yield "merged", report.merged
    yield "folded", report.folded


def _label(row: Row) -> str:
    """Return the layer's name, with the call site where that says more."""
    plain = row.name.replace(".", "_")
    return row.name if row.site.strip("_") in (plain, row.name) else f"{row.name} ({row.site})"


def _detail(row: Row) -> str:
    if row.reason:
        return f"[{row.reason}] {row.why} {row.remedy}"
    return f"{row.into} (by {row.by})"
