"""What keeps an ONNX file from being written: the message in full, and nothing left behind."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse.export.prepare as preparing
from bnfuse.errors import ExportError, MissingDependencyError, RequestError
from bnfuse.export.onnx import export_onnx
from tests.support import sequential

if TYPE_CHECKING:
    from pathlib import Path


def small() -> nn.Module:
    """Return a small model in float32."""
    return sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()).float()


def refused(error: type[Exception], wanted: str, folder: Path, *args: Any, **options: Any) -> None:
    """Check that an export fails with a message and leaves nothing behind."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    with pytest.raises(error, match=f"^{re.escape(wanted)}$"):
        export_onnx(*args, **options)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_wrong_suffix(tmp_path: Path) -> None:
    path = tmp_path / "net.pt"
    wanted = f"{path} does not end in .onnx: name the file like net.onnx."
    refused(RequestError, wanted, tmp_path, small(), path, (torch.randn(2, 4),))


def test_unwritable_path_is_refused_before_any_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(preparing, "rewritten", lambda *_, **__: pytest.fail("work was done"))
    path = tmp_path / "nowhere" / "net.onnx"
    wanted = (
        f"{path} cannot be written (No such file or directory): "
        "choose a path in a folder that exists and is writable."
    )
    refused(ExportError, wanted, tmp_path, small(), path, (torch.randn(2, 4),))


def test_model_in_training_mode(tmp_path: Path) -> None:
    wanted = (
        "Sequential is in training mode, where batch norm uses the statistics of each batch: "
        "call model.eval() first."
    )
    args = (small().train(), tmp_path / "net.onnx", (torch.randn(2, 4),))
    refused(RequestError, wanted, tmp_path, *args)


def test_inputs_that_do_not_fit(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    wanted = (
        "Sequential cannot run on the example inputs (RuntimeError: mat1 and mat2 shapes cannot "
        "be multiplied (2x5 and 4x3)): pass inputs that the model accepts, "
        "or --input SHAPE on the command line."
    )
    args = (small(), tmp_path / "net.onnx", (torch.randn(2, 5),))
    refused(RequestError, wanted, tmp_path, *args)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    wanted = (
        f"{module} is needed to export ONNX and does not import (import of {module} halted; "
        "None in sys.modules): pip install 'bnfuse[cpu]'."
    )
    args = (small(), tmp_path / "net.onnx", (torch.randn(2, 4),))
    refused(MissingDependencyError, wanted, tmp_path, *args)
