"""The report that an exported file carries."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

from bnfuse.errors import RequestError
from bnfuse.export.onnx_file import REPORT_KEY
from bnfuse.extras import require
from bnfuse.report import Report

if TYPE_CHECKING:
    import os


def read_report(path: str | os.PathLike[str]) -> Report:
    """Return the report that an exporter put into an ``.onnx`` or a ``.pt2`` file.

    Raises:
        RequestError: There is no such file, it is of another kind, or bnfuse did not write it.
        MissingDependencyError: onnx is not installed.
    """
    target = Path(path)
    if not target.is_file():
        raise RequestError(f"there is no file {target}: check the path.")
    return parsed_report(_text_in(target), target)


def parsed_report(text: str | None, source: Path) -> Report:
    """Return a report from the text that a file holds.

    Raises:
        RequestError: There is none, or it cannot be read.
    """
    if text is None:
        raise RequestError(
            f"{source} carries no report, it was not written by bnfuse: "
            "only files from bnfuse.export_onnx and bnfuse.export_pt2 do."
        )
    try:
        return Report.from_dict(json.loads(text))
    except (ValueError, KeyError, TypeError) as error:
        raise RequestError(
            f"{source} carries a report that this version of bnfuse cannot read "
            f"({type(error).__name__}: {error}): use the version that wrote it."
        ) from error


def _text_in(path: Path) -> str | None:
    """Return what a file holds under the report's name, or None."""
    if path.suffix == ".pt2":
        from bnfuse.export.archive import Archive

        return Archive.of(path).extra(REPORT_KEY)
    onnx = require("onnx", "to read ONNX files")
    try:
        proto = onnx.load(path, load_external_data=False)
    except Exception as error:
        raise RequestError(
            f"{path} is no ONNX file ({type(error).__name__}): give one that bnfuse wrote."
        ) from error
    return {entry.key: entry.value for entry in proto.metadata_props}.get(REPORT_KEY)
