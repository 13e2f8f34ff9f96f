"""The counts of ``fuzz.py``: what random models exercised, and what of that is too little."""

from __future__ import annotations

import statistics
from collections import Counter
from typing import TYPE_CHECKING, Any

from rich.markup import escape
from rich.table import Table

from tests.fuzzing.listed import LISTED
from tests.fuzzing.recording import PASSES

if TYPE_CHECKING:
    from collections.abc import Sequence

LEAST_TIMES = 200
LEAST_OPERATIONS = 12
LEAST_GONE = 0.6
COUNTERS = ("failures", "rewrites", "exercised", "by", "kept", "calls", "lengths")
NUMBERS = ("graphs", "folded", "merged", "seconds")

Row = dict[str, Any]


def summed(rows: Sequence[Row]) -> Row:
    """Return the counts of several seeds together."""
    total: Row = {name: sum(row[name] for row in rows) for name in NUMBERS}
    for name in COUNTERS:
        total[name] = sum((Counter(row[name]) for row in rows), Counter())
    total["wrong_at"] = {
        f"{row['seed']}:{index}": kinds for row in rows for index, kinds in row["wrong_at"].items()
    }
    total["mended"] = [f"{row['seed']}:{index}" for row in rows for index in row["mended"]]
    total["unchecked"] = sum(row["graphs"] for row in rows if row["without_checks"])
    return total


def median_length(row: Row) -> float:
    """Return how many operations a model has, in the median."""
    lengths = [int(length) for length, times in row["lengths"].items() for _ in range(times)]
    return statistics.median(lengths or [0])


def share_gone(row: Row) -> float:
    """Return the share of the batch norms that were folded or merged."""
    gone = row["folded"] + row["merged"]
    return float(gone / max(1, gone + sum(row["kept"].values())))


def counted(row: Row) -> list[tuple[str, str, int]]:
    """Return each pass and each listed operator, with what it is one of, and how often."""
    rewrites = [("passes", name, row["rewrites"][name]) for name in PASSES]
    listed = [(kind, name) for kind, names in LISTED.items() for name in names]
    return rewrites + [(kind, name, row["exercised"][name]) for kind, name in listed]


def missed(row: Row) -> list[str]:
    """Return what the counts fall short of, as phrases."""
    rare = [f"{name} {times}" for _, name, times in counted(row) if times < LEAST_TIMES]
    found = [f"{len(rare)} rows below {LEAST_TIMES}: {', '.join(rare)}"] if rare else []
    if median_length(row) < LEAST_OPERATIONS:
        found.append(f"operations in one, median: {median_length(row)}, below {LEAST_OPERATIONS}")
    if share_gone(row) < LEAST_GONE:
        found.append(f"batch norms gone: {share_gone(row):.1%}, below {LEAST_GONE:.0%}")
    found += [f"model {index} is wrong: {', '.join(k)}" for index, k in row["wrong_at"].items()]
    return found


def as_table(row: Row) -> Table:
    """Return the counts, with a mark where they are too small."""
    table = Table("", "", "", box=None, show_header=False)
    table.columns[0].no_wrap = True
    gone, kept = row["folded"] + row["merged"], sum(row["kept"].values())
    wrong = row["wrong_at"]
    crashed = sum(any("crash" in k or "call" in k for k in kinds) for kinds in wrong.values())
    table.add_row("models", f"{row['graphs']}, without checks {row['unchecked']}", "")
    table.add_row("wrong, of these crashed", f"{len(wrong)}, {crashed}", "")
    table.add_row("wrong before, right since", ", ".join(map(str, row["mended"])) or "none", "")
    table.add_row("operations in one, median", f"{median_length(row)}", "")
    table.add_row("batch norms", f"{gone + kept}", "")
    table.add_row("folded, merged", f"{row['folded']}, {row['merged']}", "")
    table.add_row("gone", f"{share_gone(row):.1%}", "")
    table.add_row("ms for one", f"{1000 * row['seconds'] / max(1, row['graphs']):.0f}", "")
    for title in ("failures", "by", "kept", "calls"):
        parts = ", ".join(f"{name} {times}" for name, times in row[title].most_common())
        table.add_row(title, parts or "none", "")
    for kind in ("passes", *LISTED):
        table.add_section()
        for of, name, times in counted(row):
            if of == kind:
                mark = f"below {LEAST_TIMES}" if times < LEAST_TIMES else ""
                table.add_row(escape(f"{kind}: {name}"), str(times), mark)
    return table
