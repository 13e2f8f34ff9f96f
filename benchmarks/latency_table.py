"""The table of ``benchmarks/latency.py``."""

from __future__ import annotations

from statistics import geometric_mean
from typing import Any

from rich.table import Table

RUNTIMES = ("onnxruntime_bnfuse", "openvino_bnfuse")
"""What runs bnfuse's file, in the table beside the ratios of the module's time to theirs."""


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each model, and the geometric means."""
    columns = ("model", "eager", "fastest other", "bnfuse", "ratio", "95%", "eager ratio")
    table = Table(*columns, *RUNTIMES, "s checked", "s unchecked", "s compile", box=None)
    for row in rows:
        low, high = row["against_fastest_low"], row["against_fastest_high"]
        beside = row.get("files", {}).get("against", {})
        table.add_row(
            row["model"],
            f"{row['ms']['eager']:.1f} ms",
            f"{row['ms'][row['fastest']]:.1f} ms {row['fastest']}",
            f"{row['ms']['bnfuse']:.1f} ms",
            f"{row['against_fastest']:.2f}",
            f"{low:.2f} to {high:.2f}",
            f"{row['against_eager']:.2f}",
            *(f"{beside[r][0]:.2f}" if r in beside else "" for r in RUNTIMES),
            f"{row['bnfuse_s']:.2f}",
            f"{row['bnfuse_without_checks_s']:.2f}",
            f"{row['torch_compile_freezing_s']:.1f}",
        )
    means = [geometric_mean(row[f"against_{k}"] for row in rows) for k in ("fastest", "eager")]
    beside = [[row["files"]["against"].get(r) for row in rows if "files" in row] for r in RUNTIMES]
    others = [f"{geometric_mean(r[0] for r in of):.2f}" if all(of) and of else "" for of in beside]
    table.add_row("geometric mean", "", "", "", f"{means[0]:.2f}", "", f"{means[1]:.2f}", *others)
    return table
