"""The tables of the benchmark of GPUs."""

from __future__ import annotations

import io
from typing import Any

from rich.console import Console

from benchmarks.gpu_table import tables


def printed(*rows: dict[str, Any]) -> list[str]:
    """Return the lines of the tables, blanks collapsed."""
    stream = io.StringIO()
    console = Console(file=stream, width=240, color_system=None)
    for table in tables(list(rows)):
        console.print(table)
    return [" ".join(line.split()) for line in stream.getvalue().splitlines()]


def row(kind: str, measured: str, **found: Any) -> dict[str, Any]:
    return {"kind": kind, "measured": measured, "task": f"{measured} task", **found}


def test_nothing_makes_no_table() -> None:
    assert printed() == []


def test_checks() -> None:
    head = {"model": "levit", "dtype": "float16", "gone": 3, "batch_norms": 4}
    good = {"passed": True, "error": 0.0012, "own_error": 0.002, "complaints": []}
    lines = printed(
        row("verify", "verified", **head, **good),
        row("verify", "verified", **head, **good | {"passed": False, "complaints": ["[0] nan"]}),
        row("verify", "verified", model="levit", dtype="float32", failed="OutOfMemoryError: [x]"),
    )
    assert lines[2:] == [
        "levit float16 3 of 4 1.2e-03 2.0e-03 equal",
        "levit float16 3 of 4 1.2e-03 2.0e-03 NOT equal [0] nan",
        "levit float32 OutOfMemoryError: [x]",
    ]


def test_convolutions() -> None:
    head = {"shape": "conv1", "dtype": "float32", "tf32": True, "batch": 8}
    found = {
        "separate": {"error": 1e-5, "us": 12.34},
        "one kernel": {"error": 2e-5, "failed": "RuntimeError: no graph"},
        "cudnn": {"failed": "RuntimeError: unable to find an engine"},
    }
    lines = printed(
        row("probes", "conv", **head, candidates=found),
        row("probes", "conv", **head | {"tf32": False}, failed="gone"),
        row("probes", "conv", **head | {"dtype": "float16"}, failed="gone"),
    )
    assert lines[2] == (
        "conv1 float32 TF32 8 12.3 - - - 1e-05 2e-05 - - "
        "one kernel: RuntimeError: no graph; cudnn: RuntimeError: unable to find an engine"
    )
    assert lines[3] == "conv1 float32 8 - - - - - - - - gone"
    assert lines[4].startswith("conv1 float16 8 ")


def test_other_probes() -> None:
    clocks = {"wall": {"p50": 1.0, "p99": 2.0}, "cold": {"p50": 3.0}}
    lines = printed(
        row("probes", "poison", candidates={"cudnn": {"reached": True, "nan": 0}}),
        row("probes", "clocks", candidates={"eager": clocks, "graph": {"failed": "[no]"}}),
        row("probes", "stem", failed="RuntimeError: all of it"),
    )
    assert lines[2:] == [
        "poison task cudnn reached True, nan 0",
        "clocks task eager wall 1.000 ms, p99 2.000, cold 3.000 ms",
        "clocks task graph [no]",
        "stem task RuntimeError: all of it",
    ]


def test_latencies() -> None:
    head = {"model": "resnet50", "dtype": "float16", "batch": 1}
    timed = {"ms": 1.5, "p10_ms": 1.4, "p90_ms": 1.6, "ratio": 0.75, "difference": 0.001}
    found = {"eager": timed, "compile freezing": timed, "eager graph": {"failed": "no"}}
    lines = printed(
        row("latency", "compiled", **head, mode="freezing", compile_s=31.4, candidates=found),
        row("latency", "compiled", **head, mode="freezing", failed="it"),
    )
    assert lines[2:6] == [
        "resnet50 float16 1 eager 1.500 1.400 to 1.600 0.750 1e-03",
        "resnet50 float16 1 compile freezing 1.500 1.400 to 1.600 0.750 1e-03 compiled in 31 s",
        "resnet50 float16 1 eager graph - - - no",
        "resnet50 float16 1 freezing - - - it",
    ]


def test_summary() -> None:
    head = {"model": "resnet50", "dtype": "float16", "batch": 1}
    times = {"eager": 4.0, "eager channels_last": 3.0, "eager graph": 2.0, "bnfuse graph": 1.0}
    again = {"eager": 9.0, "compile default graph": 0.8, "compile reduce-overhead": 0.5}
    rows = []
    for found in (times, again):
        candidates = {name: {"ms": ms, "p10_ms": ms, "p90_ms": ms} for name, ms in found.items()}
        rows.append(row("latency", "eager", **head, candidates=candidates))
    assert printed(*rows)[-1] == "resnet50 float16 1 3.00 - - 2.00 1.00 0.50 0.50 2.00"
