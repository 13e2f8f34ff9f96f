"""What tests of the command line need."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from typer.testing import CliRunner

from bnfuse.cli.app import app

if TYPE_CHECKING:
    from pathlib import Path

TINY = "tinymodels:tiny"
REMARKS = r"(Loading|Optimizing|Comparing)[^\n]*: \d+\.\d s|Weights and batch-norm statistics[^\n]*"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a command did."""

    code: int
    out: str
    err: str

    @property
    def words(self) -> str:
        """What it printed, however it was wrapped."""
        return " ".join(self.out.split())


Run = Callable[..., Outcome]


def help_of(*command: str) -> str:
    """Return the help text of a command, on a wide terminal and without colours."""
    result = CliRunner().invoke(
        app, [*command, "--help"], env={"TERMINAL_WIDTH": "200", "COLUMNS": "200", "NO_COLOR": "1"}
    )
    assert result.exit_code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


def refused(run: Run, folder: Path, wanted: str, *arguments: object, exact: bool = True) -> None:
    """Run a command that has to fail with one sentence and leave the folder as it was."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    outcome = run(*arguments)
    lines = [line for line in outcome.err.splitlines() if not re.fullmatch(REMARKS, line)]
    pattern = re.escape(wanted) if exact else wanted
    assert len(lines) == 1, outcome.err
    assert re.fullmatch(f"error: {pattern}", lines[0])
    assert outcome.code == 1
    assert outcome.out == ""
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before
