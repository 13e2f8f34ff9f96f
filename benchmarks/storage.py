"""Rows of results in a file, written after each measurement so that a second run can go on."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from bnfuse.bench.environment import environment
from bnfuse.export.atomic import atomic_file

if TYPE_CHECKING:
    from pathlib import Path


def load(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, none where there is no file."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def save(path: Path, rows: list[dict[str, Any]]) -> None:
    """Write rows with the commit and the environment they were measured with."""
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    made = {"commit": commit.stdout.strip(), "environment": environment(), "rows": rows}
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(made, indent=1) + "\n")
