"""The table of latencies."""

from __future__ import annotations

from typing import Any

from rich.console import Console

from benchmarks.latency_table import as_table


def row(model: str, ratio: float, **more: Any) -> dict[str, Any]:
    """Return what is measured of a model whose fastest other takes 10 ms."""
    ms = {"eager": 40.0, "torch_compile_freezing": 10.0, "bnfuse": 10.0 * ratio}
    against = {"against_fastest": ratio, "against_fastest_low": 0.1, "against_fastest_high": 3.0}
    seconds = {"bnfuse_s": 1.0, "bnfuse_without_checks_s": 0.5, "torch_compile_freezing_s": 30.0}
    fastest = {"fastest": "torch_compile_freezing", "against_eager": ratio / 4}
    return {"model": model, "ms": ms, **fastest, **against, **seconds, **more}


def printed(rows: list[dict[str, Any]]) -> list[list[str]]:
    """Return the words of each line of the table."""
    console = Console(width=250)
    with console.capture() as capture:
        console.print(as_table(rows))
    return [line.split() for line in capture.get().splitlines()]


def test_ratios_and_their_means() -> None:
    files = [{"against": {"onnxruntime_bnfuse": (r, r, r)}} for r in (0.5, 2.0)]
    lines = printed([row("one", 0.4, files=files[0]), row("two", 0.9, files=files[1])])
    assert lines[1][:5] == ["one", "40.0", "ms", "10.0", "ms"]
    assert lines[1][-5:] == ["0.10", "0.50", "1.00", "0.50", "30.0"]
    assert lines[3] == ["geometric", "mean", "0.60", "0.15", "1.00"]


def test_without_files_nothing_is_said_of_runtimes() -> None:
    assert printed([row("one", 0.4)])[2] == ["geometric", "mean", "0.40", "0.10"]
