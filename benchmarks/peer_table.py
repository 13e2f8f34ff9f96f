"""Tables of what became of the cases: by group for the terminal, by tool for the README."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

Row = dict[str, Any]
SHORT = {
    "folded": "f",
    "kept": "k",
    "refused": "r",
    "wrong": "w",
    "original changed": "c",
    "not comparable": "-",
}
COLUMNS = (
    "right and folded",
    "right and kept",
    "refused",
    "silently wrong values",
    "silently lost effect or type",
    "wrong, with a warning",
    "model changed",
    "left out",
)


def by_group(rows: Sequence[Row], titles: Mapping[str, str]) -> Table:
    """Return a row for each group of cases, a column for each tool."""
    table = Table("group", "cases", *titles.values(), box=None, header_style="bold")
    groups = dict.fromkeys(row["group"] for row in rows)
    for group in groups:
        own = [row for row in rows if row["group"] == group]
        cells = [cell([row for row in own if row["tool"] == tool]) for tool in titles]
        table.add_row(group, str(len({row["case"] for row in own})), *cells)
    return table


def cell(rows: Sequence[Row]) -> str:
    """Return the outcomes of some cases in a tool's hands."""
    counts = Counter(row["outcome"] for row in rows)
    return " ".join(f"{counts[key]}{text}" for key, text in SHORT.items() if counts[key])


def line(rows: Sequence[Row]) -> list[str]:
    """Return the counts of a tool's cases, in the order of ``COLUMNS``."""
    counts = Counter(row["outcome"] for row in rows)
    wrong = [row for row in rows if row["outcome"] == "wrong"]
    silent = [row for row in wrong if not row.get("warned")]
    values = sum(row["values"] for row in silent)
    found = [counts["folded"], counts["kept"], counts["refused"]]
    found += [values, len(silent) - values, len(wrong) - len(silent)]
    return [str(n) for n in (*found, counts["original changed"], counts["not comparable"])]


def by_tool(rows: Sequence[Row], titles: Mapping[str, str]) -> str:
    """Return the tables for the README: cases with something to fold, and cases without."""
    parts = []
    for asked, text in ((True, "to be folded"), (False, "to be left as they are")):
        own = [row for row in rows if row["expects_fold"] == asked]
        head = (
            f"{len({row['case'] for row in own})} cases {text}",
            *COLUMNS,
        )
        lines = [head, ("---",) * len(head)]
        lines += [
            (title, *line([row for row in own if row["tool"] == tool]))
            for tool, title in titles.items()
        ]
        parts.append("\n".join(f"| {' | '.join(cells)} |" for cells in lines))
    return "\n\n".join(parts)
