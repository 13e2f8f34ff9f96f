"""Rows of results in a file, written after each measurement so that a second run can go on."""

from __future__ import annotations

import json
import subprocess
from typing import TYPE_CHECKING, Any

from bnfuse.bench.environment import environment
from bnfuse.export.atomic import atomic_file

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


def load(path: Path) -> list[dict[str, Any]]:
    """Return the rows of a file, none where there is no file."""
    rows: list[dict[str, Any]] = json.loads(path.read_text())["rows"] if path.exists() else []
    return rows


def save(path: Path, rows: list[dict[str, Any]], more: Mapping[str, Any] | None = None) -> None:
    """Write rows with the commit and the environment they were measured with.

    Args:
        path: The file.
        rows: What was measured.
        more: Further facts of the environment.
    """
    facts = environment() | dict(more or {})
    made = {"commit": current_commit(), "environment": facts, "rows": rows}
    with atomic_file(path) as temporary:
        temporary.write_text(json.dumps(made, indent=1) + "\n")


def current_commit() -> str:
    """Return the commit that is checked out, ``unknown`` without git or outside a checkout."""
    command = ["git", "rev-parse", "HEAD"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()
