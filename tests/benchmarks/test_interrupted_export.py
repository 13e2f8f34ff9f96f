"""The benchmark of interrupted exports: what counts as wrong, and that it looks."""

from __future__ import annotations

import signal
import time
from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

import bnfuse
from benchmarks.interrupted_export import as_table, contents, interrupted, is_right

if TYPE_CHECKING:
    from pathlib import Path

KNOWN = {b"old": "earlier", b"new": "new"}
GOOD = {"signal": "SIGINT", "ended": "interrupted", "file": "earlier", "beside": [], "next": ""}


@pytest.mark.parametrize(
    ("changed", "right"),
    [
        ({}, True),
        ({"file": "new", "ended": "finished"}, True),
        ({"file": "partial"}, False),
        ({"file": "missing"}, False),
        ({"ended": "failed"}, False),
        ({"beside": [".net.1.onnx"], "next": "new"}, False),
        ({"signal": "SIGKILL", "beside": [".net.1.onnx"], "next": "new"}, True),
        ({"signal": "SIGKILL", "beside": [".net.1.onnx"], "next": "earlier"}, False),
    ],
)
def test_what_is_right(changed: dict[str, Any], right: bool) -> None:
    assert is_right(GOOD | changed) is right
    wrong = list(as_table([GOOD | changed]).columns[-1].cells)
    assert wrong.count("1") == (0 if right else 1)


def test_files_are_told_byte_by_byte(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    assert contents(path, KNOWN) == "missing"
    for written, what in ((b"old", "earlier"), (b"new", "new"), (b"ne", "partial")):
        path.write_bytes(written)
        assert contents(path, KNOWN) == what


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
@pytest.mark.parametrize("name", ["SIGINT", "SIGKILL"])
def test_a_writer_that_is_not_atomic_is_found(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    def careless(_: nn.Module, path: Path, __: Any) -> None:
        path.write_bytes(b"ne")
        time.sleep(60)

    monkeypatch.setattr(bnfuse, "export_onnx", careless)
    row = interrupted(name, nn.Identity(), KNOWN, after=1.0)
    assert row["file"] == "partial"
    assert row["ended"] == {"SIGINT": "interrupted", "SIGKILL": signal.SIGKILL.name}[name]
    assert not is_right(row)
