"""What counts as reached, and the table."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
from rich.console import Console

from benchmarks.onnx_in import as_table, is_reached

FILE = {
    "opset": 20, "nodes": 3, "batch_norms": 0, "multiplying": 2, "face": ["x nx3"], "by_type": {},
}  # fmt: skip
ROW: dict[str, Any] = {
    "model": "net", "seconds": 3.0, "folded": 2, "kept": [],
    "max_rel_error": 1e-7, "own_rel_error": 1e-7,
    "source": {**FILE, "batch_norms": 2}, "made": dict(FILE), "direct": dict(FILE),
}  # fmt: skip


def test_the_same_is_reached() -> None:
    assert is_reached(ROW)


@pytest.mark.parametrize(
    ("key", "value"),
    [("batch_norms", 1), ("multiplying", 3), ("face", ["x 1x3"]), ("opset", 18)],
)
def test_anything_else_is_missed(key: str, value: Any) -> None:
    row = copy.deepcopy(ROW)
    row["made"][key] = value
    assert not is_reached(row)
    console = Console(width=120, file=io.StringIO(), record=True)
    console.print(as_table([row]))
    assert "missed" in console.export_text()
