"""What tests of the command line need."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

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
