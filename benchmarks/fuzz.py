"""Optimize whole random models and compare each with itself.

``python benchmarks/fuzz.py --graphs 20000 --seed 1`` draws models as ``tests/fuzzing`` does, checks
each, and makes every failing one smaller before it prints it as a case for
``tests/fuzzing/test_regressions.py``. The counts go to ``benchmarks/results/fuzz.json``, a row for
each seed, every 200 models; a second run goes on where the first stopped, and ``--again`` starts
over. With ``--no-checks`` every second model is optimized without checks of its rewrites.
"""

from __future__ import annotations

import random
import statistics
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the models are drawn by the tests

from storage import load, save

from tests.fuzzing.checking import Outcome, check
from tests.fuzzing.drawing import drawn_program
from tests.fuzzing.program import Program
from tests.fuzzing.shrinking import as_test, shrunk

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
BETWEEN_SAVES = 200
MOST_SHRUNK = 3  # of each kind of failure
COUNTERS = ("failures", "operations", "by", "kept", "calls", "lengths")


def empty_row(seed: int, without_checks: bool) -> dict[str, Any]:
    """Return the row of a seed before its first model."""
    row: dict[str, Any] = {"seed": seed, "without_checks": without_checks, "seconds": 0.0}
    row |= dict.fromkeys(("graphs", "wrong", "crashed", "folded", "merged"), 0)
    return row | {name: Counter() for name in COUNTERS} | {"examples": []}


def row_of(rows: list[dict[str, Any]], seed: int, without_checks: bool) -> dict[str, Any]:
    """Return the row of a seed, with what was counted before, and put it among the rows."""
    for row in rows:
        if (row["seed"], row["without_checks"]) == (seed, without_checks):
            row.update({name: Counter(row[name]) for name in COUNTERS})
            return row
    rows.append(empty_row(seed, without_checks))
    return rows[-1]


def program_at(row: dict[str, Any], index: int) -> Program:
    """Return the program of a number; that of a seed and a number is always the same."""
    checked = not row["without_checks"] or index % 2 == 0
    return drawn_program(random.Random(f"{row['seed']}:{index}"), checked)


def count(row: dict[str, Any], program: Program, outcome: Outcome) -> None:
    """Add what became of a model to the row."""
    row["graphs"] += 1
    row["wrong"] += bool(outcome.wrong)
    row["crashed"] += any("crash" in kind or "call" in kind for kind in outcome.kinds)
    row["failures"].update(outcome.kinds)
    row["operations"].update(operation for operation, _ in program.steps)
    row["lengths"].update([str(len(program.steps))])
    row["calls"].update(outcome.calls)
    if outcome.report is None:
        return
    gone = (*outcome.report.folded, *outcome.report.merged)
    row["folded"] += len(outcome.report.folded)
    row["merged"] += len(outcome.report.merged)
    row["by"].update(str(line.by) for line in gone)
    row["kept"].update(str(line.reason) for line in outcome.report.kept)


def note_failure(
    row: dict[str, Any], index: int, program: Program, outcome: Outcome, console: Console
) -> None:
    """Print a failing model made smaller, and keep it in the row."""
    if all(row["failures"][kind] > MOST_SHRUNK for kind in outcome.kinds):
        return
    small = shrunk(program)
    wrong = check(small).wrong or outcome.wrong
    row["examples"].append({"index": index, "wrong": wrong[0][:300], "program": asdict(small)})
    console.print(f"model {index}: {wrong[0][:300]}", style="red", markup=False)
    console.print(as_test(small), markup=False, highlight=False, soft_wrap=True)


def summary(row: dict[str, Any]) -> Table:
    """Return the counts of a row."""
    table = Table("", "", box=None, show_header=False)
    lengths = [int(length) for length, times in row["lengths"].items() for _ in range(times)]
    gone, kept = row["folded"] + row["merged"], sum(row["kept"].values())
    table.add_row("models", f"{row['graphs']}")
    table.add_row("wrong, of these crashed", f"{row['wrong']}, {row['crashed']}")
    table.add_row("operations in one, median", f"{statistics.median(lengths or [0])}")
    table.add_row("batch norms", f"{gone + kept}")
    table.add_row("folded, merged", f"{row['folded']}, {row['merged']}")
    table.add_row("gone", f"{100 * gone / max(1, gone + kept):.1f}%")
    table.add_row("ms for one", f"{1000 * row['seconds'] / max(1, row['graphs']):.0f}")
    for title in ("failures", "by", "kept", "calls", "operations"):
        counted = ", ".join(f"{name} {times}" for name, times in row[title].most_common())
        table.add_row(title, counted or "none")
    return table


def main(
    graphs: Annotated[int, typer.Option(help="How many models.")] = 2000,
    seed: Annotated[int, typer.Option(help="From which they are drawn.")] = 1,
    no_checks: Annotated[bool, typer.Option(help="Check no rewrites in every second.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
) -> None:
    """Draw, optimize and compare; save now and then; print the counts."""
    console = Console()
    torch.set_num_threads(1)
    rows = [] if again else load(RESULTS)
    row = row_of(rows, seed, no_checks)
    started, before = time.monotonic(), row["seconds"]
    for index in track(range(row["graphs"], graphs), "Optimizing", console=console):
        program = program_at(row, index)
        outcome = check(program, twice=index % 3 == 0)
        count(row, program, outcome)
        if outcome.wrong:
            note_failure(row, index, program, outcome, console)
        row["seconds"] = round(before + time.monotonic() - started, 1)
        if row["graphs"] % BETWEEN_SAVES == 0:
            save(RESULTS, rows)
    save(RESULTS, rows)
    console.print(summary(row))
    raise typer.Exit(1 if row["wrong"] else 0)


if __name__ == "__main__":
    typer.run(main)
