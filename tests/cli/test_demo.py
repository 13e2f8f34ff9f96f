"""The demo, on a small model."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bnfuse.cli import demo
from bnfuse.errors import ExportError, VerificationError
from bnfuse.export.stored_report import read_report
from bnfuse.validation import Verification

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.support import Run


@pytest.fixture(autouse=True)
def small_model(monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the demo on a model of a few kilobytes."""
    assert demo.MODEL == "torchvision:resnet50"
    monkeypatch.setattr(demo, "MODEL", "timm:test_resnet")


def test_demo_goes_the_whole_way(run: Run, tmp_path: Path) -> None:
    path = tmp_path / "demo.onnx"
    outcome = run("demo", "-o", path, "--seconds", "0.2")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert lines[0] == "ResNet: 15 of 15 batch norms folded."
    assert len([line for line in lines if "(by fold-affine)" in line]) == demo.ROWS_SHOWN
    (rest,) = [line for line in lines if line.startswith("...")]
    assert rest.split()[:4] == ["...", "and", str(15 - demo.ROWS_SHOWN), "more"]
    assert any(line.startswith("ResNet is equal to the unfused model") for line in lines)
    assert any(line.startswith("demo.onnx is equal to the unfused model") for line in lines)
    (written,) = [line for line in lines if line.startswith(f"Wrote {path}: ")]
    assert "Conv" in written
    assert "BatchNormalization" not in written
    rows = [line.split()[0] for line in lines[lines.index(written) + 1 :]]
    assert rows[:5] == ["median", "eager", "bnfuse", "onnxruntime", "python"]
    assert read_report(path).total == 15
    assert list(tmp_path.iterdir()) == [path]


def test_demo_says_what_it_does_on_stderr(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ExportError, match=r" cannot be written \(No such file or directory\): "):
        demo.run(tmp_path / "nowhere" / "net.onnx", 0.2)
    err = capfd.readouterr().err
    assert "Weights and batch-norm statistics are random: nothing is downloaded.\n" in err
    stages = ("Loading timm:test_resnet", "Optimizing", "Verifying against the unfused model")
    assert [stage for stage in stages if f"{stage}" not in err] == []


def test_demo_stops_where_the_check_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def failed(self: Verification) -> Verification:
        raise VerificationError(f"{self.candidate} is not equal")

    monkeypatch.setattr(Verification, "raise_if_failed", failed)
    with pytest.raises(VerificationError, match=r"^ResNet is not equal$"):
        demo.run(tmp_path / "net.onnx", 0.2)
    assert list(tmp_path.iterdir()) == []
