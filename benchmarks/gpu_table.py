"""The rows of ``gpu.py`` as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Iterable

Row = dict[str, Any]
_KINDS = ("eager", "bnfuse", "compile")
_OWN_GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes of ``torch.compile`` that replay CUDA graphs of their own."""


def tables(rows: list[Row]) -> list[Table]:
    """Return a table for each kind of row that is there."""
    probes = of_kind(rows, "probes")
    made = [
        (as_checks, of_kind(rows, "verify")),
        (as_convolutions, [row for row in probes if row["measured"] == "conv"]),
        (as_probes, [row for row in probes if row["measured"] != "conv"]),
        (as_probes, of_kind(rows, "endings")),
        (as_latencies, of_kind(rows, "latency")),
        (as_summary, of_kind(rows, "latency")),
    ]
    return [table(chosen) for table, chosen in made if chosen]


def of_kind(rows: list[Row], kind: str) -> list[Row]:
    """Return the rows of a kind."""
    return [row for row in rows if row["kind"] == kind]


def as_checks(rows: list[Row]) -> Table:
    """Return a row for each model and dtype."""
    table = _table("Verified", "model", "dtype", "batch norms gone", "error", "own error", "")
    for row in rows:
        start = row["model"], row["dtype"]
        if "failed" in row:
            table.add_row(*start, "", "", "", Text(row["failed"]))
            continue
        errors = f"{row['error']:.1e}", f"{row['own_error']:.1e}"
        verdict = "equal" if row["passed"] else " ".join(["NOT equal", *row["complaints"]])
        table.add_row(*start, f"{row['gone']} of {row['batch_norms']}", *errors, Text(verdict))
    return table


def as_convolutions(rows: list[Row]) -> Table:
    """Return a row for each convolution, with microseconds of GPU time and errors."""
    ways = ("separate", "one kernel", "cudnn", "matrix")
    columns = [f"{way} µs" for way in ways] + [f"{way} error" for way in ways]
    table = _table("Convolution, bias, sum, relu", "shape", "dtype", "batch", *columns, "")
    for row in rows:
        found = [row.get("candidates", {}).get(way, {}) for way in ways]
        figures = [_figure(one, "us", ".1f") for one in found]
        figures += [_figure(one, "error", ".0e") for one in found]
        told = _complaints(row)
        table.add_row(row["shape"], _dtype(row), str(row["batch"]), *figures, Text(told))
    return table


def as_probes(rows: list[Row]) -> Table:
    """Return a row for each way of each probe."""
    table = _table("Probes", "probe", "way", "found")
    for row in rows:
        for name, found in _candidates(row):
            table.add_row(row["task"], name, Text(", ".join(_told(found))))
    return table


def as_latencies(rows: list[Row]) -> Table:
    """Return a row for each way to run each model."""
    columns = ("model", "dtype", "batch", "way", "median ms", "10% to 90%", "to eager")
    table = _table("Latency", *columns, "difference", "")
    for row in rows:
        start = row["model"], row["dtype"], str(row["batch"])
        compiling = f"compiled in {row['compile_s']:.0f} s" if "compile_s" in row else ""
        for name, found in _candidates(row):
            note = found.get("failed", compiling if name.startswith("compile") else "")
            spread = f"{found['p10_ms']:.3f} to {found['p90_ms']:.3f}" if "ms" in found else ""
            median, ratio = _figure(found, "ms", ".3f"), _figure(found, "ratio", ".3f")
            difference = _figure(found, "difference", ".0e")
            table.add_row(*start, name, median, spread, ratio, difference, Text(note))
    return table


def as_summary(rows: list[Row]) -> Table:
    """Return the fastest layout of each kind for each model, in milliseconds.

    Where a model was timed more than once the first time counts, that in both layouts; a compiled
    one is set beside the others although it ran in another round.
    """
    columns = (
        "model",
        "dtype",
        "batch",
        *_KINDS,
        *(f"{kind} graph" for kind in _KINDS),
        "to eager",
    )
    table = _table("The fastest of each kind, ms", *columns, "to compile")
    found: dict[tuple[str, str, str], dict[str, float]] = {}
    for row in rows:
        if "candidates" in row:
            times = found.setdefault((row["model"], row["dtype"], str(row["batch"])), {})
            for kind, ms in _fastest(row).items():
                times.setdefault(kind, ms)
    for head, times in found.items():
        kinds = [*_KINDS, *(f"{kind} graph" for kind in _KINDS)]
        figures = [f"{times[kind]:.2f}" if kind in times else "-" for kind in kinds]
        own = times.get("bnfuse graph", float("nan"))
        ratios = [own / times.get(f"{kind} graph", float("nan")) for kind in ("eager", "compile")]
        table.add_row(*head, *figures, *(f"{r:.2f}" if r == r else "-" for r in ratios))
    return table


def _fastest(row: Row) -> dict[str, float]:
    """Return the least time of each kind in a row, with and without a CUDA graph."""
    least: dict[str, float] = {}
    for name, found in _candidates(row):
        if "ms" in found:
            kind = name.split()[0] + (" graph" if name.endswith(("graph", *_OWN_GRAPHS)) else "")
            least[kind] = min(found["ms"], least.get(kind, float("inf")))
    return least


def _table(title: str, *columns: str) -> Table:
    return Table(*columns, title=title, title_justify="left", box=None, header_style="bold")


def _candidates(row: Row) -> Iterable[tuple[str, Row]]:
    """Return the ways of a row with what was found; a row that failed as a whole has one."""
    if "failed" in row:
        return [(row.get("mode", ""), row)]
    return list(row["candidates"].items())


def _complaints(row: Row) -> str:
    return "; ".join(
        ": ".join([name, found["failed"]]) if name else found["failed"]
        for name, found in _candidates(row)
        if "failed" in found
    )


def _figure(found: Row, key: str, how: str) -> str:
    return format(found[key], how) if key in found else "-"


def _dtype(row: Row) -> str:
    return str(row["dtype"]) + ("" if row["dtype"] != "float32" else " TF32" if row["tf32"] else "")


def _told(found: Row) -> list[str]:
    """Return what was found in words: nested figures with their names in front."""
    if "failed" in found:
        return [str(found["failed"])]
    told = []
    for key, value in found.items():
        if isinstance(value, dict):
            tail = [f"p99 {value['p99']:.3f}"] if "p99" in value else []
            told += [f"{key} {value['p50']:.3f} ms", *tail]
        else:
            told.append(f"{key} {value:.3g}" if isinstance(value, float) else f"{key} {value}")
    return told
