"""Optimize whole random models and compare each with itself.

``python benchmarks/fuzz.py --graphs 10000 --seed 1`` draws models as ``tests/fuzzing`` does, checks
each, and makes every failing one smaller before it prints it as a case for
``tests/fuzzing/test_regressions.py``. With ``--no-checks`` the models are optimized without checks
of their rewrites. The counts go to ``benchmarks/results/fuzz.json``, a row for each seed, every 200
models, with the commits they were counted at; several seeds may run side by side. A second run goes
on where the first stopped, after another look at the models that were wrong, and ``--again`` starts
the seed over. ``--total`` draws nothing and prints the counts of all seeds together: how often each
operator of ``tests/fuzzing/listed.py`` was in a model and each pass of the pipeline rewrote
something, and which of them are below 200.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import random
import sys
import time
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import torch
import typer
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # the models are drawn by the tests

from benchmarks.fuzz_table import COUNTERS, NUMBERS, as_table, missed, summed
from benchmarks.storage import current_commit, load, save
from tests.fuzzing.checking import Outcome, check
from tests.fuzzing.drawing import drawn_program
from tests.fuzzing.exercised import exercised
from tests.fuzzing.shrinking import as_test, shrunk

if TYPE_CHECKING:
    from collections.abc import Iterator

    from benchmarks.fuzz_table import Row
    from tests.fuzzing.program import Program

RESULTS = Path(__file__).parent / "results" / "fuzz.json"
BETWEEN_SAVES = 200
MOST_SHRUNK = 3  # of each kind of failure


def empty_row(seed: int, without_checks: bool) -> Row:
    """Return the row of a seed before its first model."""
    row: Row = {"seed": seed, "without_checks": without_checks, "commits": []}
    row |= dict.fromkeys(NUMBERS, 0) | {"wrong_at": {}, "mended": []}
    return row | {name: Counter() for name in COUNTERS} | {"examples": []}


def is_of(row: Row, seed: int, without_checks: bool) -> bool:
    """Whether a row is that of a seed."""
    return (row["seed"], row["without_checks"]) == (seed, without_checks)


def row_of(path: Path, seed: int, without_checks: bool) -> Row:
    """Return the row of a seed, with what was counted before."""
    for row in load(path):
        if is_of(row, seed, without_checks):
            return row | {name: Counter(row[name]) for name in COUNTERS}
    return empty_row(seed, without_checks)


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other processes that ask for it from the files of a folder."""
    handle = os.open(folder, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def save_row(path: Path, row: Row) -> None:
    """Write the row of a seed beside those of others, which another process may have written."""
    with locked(path.parent):
        others = [r for r in load(path) if not is_of(r, row["seed"], row["without_checks"])]
        save(path, sorted([*others, row], key=lambda r: (r["without_checks"], r["seed"])))


def program_at(row: Row, index: int) -> Program:
    """Return the program of a number; that of a seed and a number is always the same."""
    return drawn_program(random.Random(f"{row['seed']}:{index}"), not row["without_checks"])


def count(row: Row, program: Program, outcome: Outcome) -> None:
    """Add what became of a model to the row."""
    row["graphs"] += 1
    row["exercised"].update(exercised(program))
    row["lengths"].update([str(len(program.steps))])
    row["calls"].update(outcome.calls)
    row["rewrites"].update(outcome.rewrites)
    if outcome.report is None:
        return
    gone = (*outcome.report.folded, *outcome.report.merged)
    row["folded"] += len(outcome.report.folded)
    row["merged"] += len(outcome.report.merged)
    row["by"].update(str(line.by) for line in gone)
    row["kept"].update(str(line.reason) for line in outcome.report.kept)


def note_failure(
    row: Row, index: int, program: Program, outcome: Outcome, console: Console
) -> None:
    """Print a failing model made smaller, and keep it in the row."""
    row["wrong_at"][str(index)] = sorted(outcome.kinds)
    row["failures"].update(outcome.kinds)
    if all(row["failures"][kind] > MOST_SHRUNK for kind in outcome.kinds):
        return
    small = shrunk(program)
    wrong = check(small).wrong or outcome.wrong
    row["examples"].append({"index": index, "wrong": wrong[0][:300], "program": asdict(small)})
    console.print(f"model {index}: {wrong[0][:300]}", style="red", markup=False)
    console.print(as_test(small), markup=False, highlight=False, soft_wrap=True)


def look_again(row: Row) -> None:
    """Check the models that were wrong, and note those that are right by now."""
    for index in list(row["wrong_at"]):
        if not check(program_at(row, int(index))).wrong:
            del row["wrong_at"][index]
            row["mended"].append(int(index))


def print_counts(rows: list[Row], console: Console) -> bool:
    """Print the counts of seeds together, and return whether they are what they have to be."""
    total = summed(rows)
    console.print(as_table(total))
    short = missed(total)
    console.print("short of what is wanted:", "; ".join(short) or "nothing", markup=False)
    return not short


def main(
    graphs: Annotated[int, typer.Option(help="How many models.")] = 2000,
    seed: Annotated[int, typer.Option(help="From which they are drawn.")] = 1,
    no_checks: Annotated[bool, typer.Option("--no-checks", help="Check no rewrites.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Forget the seed's results.")] = False,
    total: Annotated[bool, typer.Option("--total", help="Print the counts of all seeds.")] = False,
) -> None:
    """Draw, optimize and compare; save now and then; print the counts."""
    console = Console()
    if total:
        raise typer.Exit(0 if print_counts(load(RESULTS), console) else 1)
    torch.set_num_threads(1)
    row = empty_row(seed, no_checks) if again else row_of(RESULTS, seed, no_checks)
    row["commits"] += [made] if (made := current_commit()) not in row["commits"] else []
    look_again(row)
    started, before = time.monotonic(), row["seconds"]
    for index in track(range(row["graphs"], graphs), "Optimizing", console=console):
        program = program_at(row, index)
        outcome = check(program, twice=index % 3 == 0)
        count(row, program, outcome)
        if outcome.wrong:
            note_failure(row, index, program, outcome, console)
        row["seconds"] = round(before + time.monotonic() - started, 1)
        if row["graphs"] % BETWEEN_SAVES == 0:
            save_row(RESULTS, row)
    save_row(RESULTS, row)
    print_counts([row], console)
    raise typer.Exit(1 if row["wrong_at"] else 0)


if __name__ == "__main__":
    typer.run(main)
