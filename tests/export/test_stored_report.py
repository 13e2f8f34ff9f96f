"""Reading the report that a file carries."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING

import onnx
import pytest

from bnfuse.errors import RequestError
from bnfuse.export.onnx_file import REPORT_KEY
from bnfuse.export.stored_report import read_report
from tests.export.support import a_proto

if TYPE_CHECKING:
    from pathlib import Path


def unreadable(path: Path, wanted: str) -> None:
    """Check that no report is read, for a reason."""
    with pytest.raises(RequestError, match=f"^{wanted}$"):
        read_report(path)


def test_no_report_in_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    unreadable(path, re.escape(f"there is no file {path}: check the path."))
    unreadable(tmp_path, re.escape(f"there is no file {tmp_path}: check the path."))


def test_no_report_in_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\xff" * 100)
    unreadable(
        path, re.escape(f"{path} is no ONNX file (DecodeError): give one that bnfuse wrote.")
    )


def test_no_report_in_a_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(a_proto(author="somebody"), path)
    wanted = (
        f"{path} carries no report, it was not written by bnfuse: "
        "only files from bnfuse.export_onnx and bnfuse.export_pt2 do."
    )
    unreadable(path, re.escape(wanted))


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", "{}", json.dumps({"folded": [{"unknown": 1}], "merged": []})]
)
def test_no_report_in_a_damaged_entry(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(a_proto(**{REPORT_KEY: text}), path)
    start = re.escape(f"{path} carries a report that this version of bnfuse cannot read (")
    unreadable(path, rf"{start}\w+: .+\): use the version that wrote it\.")
