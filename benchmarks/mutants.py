"""Break bnfuse on purpose and see what notices.

``python benchmarks/mutants.py`` makes one mistake at a time in a copy of the sources:

- with the check of each rewrite on, ``mutant_probe.py`` optimizes small models: a mistake in the
  algebra has to end as a failed check, with the outputs still right;
- with that check off, the tests of the parts concerned are run: one of them has to fail.

Results go to ``benchmarks/results/mutants.json`` after each; a second run goes on where the first
stopped, ``--again`` starts over, ``--only`` takes the mistakes with some words in their names.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

from benchmarks.mutant_list import ALGEBRA, CHECK_OFF, GUARDS, Mutant
from benchmarks.storage import load, save

ROOT = Path(__file__).resolve().parents[1]
RESULTS = Path(__file__).parent / "results" / "mutants.json"
COPIED = ("bnfuse", "passes", "tests", "benchmarks", "docs", "pyproject.toml", "README.md")
TESTS = ("tests/affine", "tests/moves", "tests/passes")
OTHER_TESTS = ("tests/ops", "tests/graph", "tests/test_hard_cases.py")


def apply(folder: Path, mutant: Mutant) -> None:
    """Make a mistake in a copy of the sources.

    Raises:
        ValueError: The source is not there, or not once.
    """
    path = folder / mutant.path
    source = path.read_text()
    if source.count(mutant.old) != 1:
        times = source.count(mutant.old)
        raise ValueError(f"{mutant.name!r}: its source stands {times} times in {mutant.path}.")
    path.write_text(source.replace(mutant.old, mutant.new))


def copy_sources(folder: Path) -> None:
    """Copy what the probe and the tests need."""
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            unwanted = shutil.ignore_patterns("__pycache__", "results")
            shutil.copytree(source, folder / name, symlinks=True, ignore=unwanted)
        else:
            shutil.copy(source, folder / name)


def run(folder: Path, *command: str) -> subprocess.CompletedProcess[str]:
    """Run Python on the copy."""
    given = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, *command],
        cwd=folder,
        env=given,
        capture_output=True,
        text=True,
        check=False,
    )


def probed(folder: Path) -> dict[str, Any]:
    """Return what the probe says, with the check of each rewrite on."""
    done = run(folder, "benchmarks/mutant_probe.py")
    if done.returncode:
        return {"crashed": done.stderr.strip().splitlines()[-1:]}
    found: dict[str, Any] = json.loads(done.stdout.strip().splitlines()[-1])
    return found


def failing_test(folder: Path) -> str:
    """Return the first test that fails with the check of each rewrite off, or ""."""
    apply(folder, CHECK_OFF)
    for tests in (TESTS, OTHER_TESTS):
        done = run(folder, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *tests)
        lines = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
        if lines:
            return lines[0].split(" - ")[0]
    return ""


def measured(mutant: Mutant) -> dict[str, Any]:
    """Make one mistake and see what notices it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        copy_sources(folder)
        apply(folder, mutant)
        probe = probed(folder)
        return {
            "mutant": mutant.name,
            "path": mutant.path,
            "probe": probe,
            "test": failing_test(folder),
        }


def is_noticed(row: dict[str, Any], *, is_algebra: bool) -> bool:
    """Whether a mistake was noticed by all that should."""
    probe = row["probe"]
    is_checked = probe.get("wrong") == 0 and bool(probe.get("undone"))
    return bool(row["test"]) and (is_checked or not is_algebra)


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each mistake."""
    table = Table("mistake", "checks failed", "outputs wrong", "test that fails", "", box=None)
    algebra = {mutant.name for mutant in ALGEBRA}
    for row in rows:
        probe = row["probe"]
        failed = sum(probe.get("undone", {}).values())
        wrong = str(probe.get("wrong", probe.get("crashed")))
        verdict = "" if is_noticed(row, is_algebra=row["mutant"] in algebra) else "missed"
        table.add_row(
            row["mutant"], str(failed), wrong, row["test"].removeprefix("FAILED "), verdict
        )
    return table


def main(
    only: Annotated[str, typer.Option(help="Words in the names of the mistakes to make.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
) -> None:
    """Make what mistakes are missing, save after each, print the table."""
    wanted = [mutant for mutant in ALGEBRA + GUARDS if only in mutant.name]
    names = {mutant.name for mutant in wanted}
    rows = [row for row in load(RESULTS) if not (again and row["mutant"] in names)]
    known = {row["mutant"] for row in rows}
    for mutant in track([m for m in wanted if m.name not in known], "Breaking"):
        rows.append(measured(mutant))
        save(RESULTS, rows)
    Console(width=150).print(as_table(rows))
    if not all(
        is_noticed(row, is_algebra=row["mutant"] in {m.name for m in ALGEBRA}) for row in rows
    ):
        raise typer.Exit(1)


if __name__ == "__main__":
    typer.run(main)
