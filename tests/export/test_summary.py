"""What an export prints, for a file of each kind."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import nn

import bnfuse
from bnfuse.export.onnx import OnnxExport
from bnfuse.export.summary import summary
from bnfuse.export.tensorrt import TensorrtExport
from bnfuse.export.triton import TritonExport
from tests.support import ready

MODEL = ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU())).float()
X = torch.randn(1, 3, 8, 8)
FOLDED = "Sequential: 1 of 1 batch norms folded"


def test_onnx(tmp_path: Path) -> None:
    made = bnfuse.export_onnx(MODEL, tmp_path / "net.onnx", (X,))
    assert made.verification is not None
    first, second, third = str(made).splitlines()
    assert first == f"{tmp_path / 'net.onnx'}: 2 nodes, opset {made.opset}, any batch size"
    assert second == made.verification.headline
    assert third.startswith(FOLDED)


def test_onnx_with_weights_beside_it() -> None:
    report = bnfuse.report(bnfuse.optimize(MODEL))
    made = OnnxExport(Path("n.onnx"), Path("n.onnx.data"), None, False, 20, {"Conv": 3}, report)
    first, second, _ = str(made).splitlines()
    assert first == "n.onnx: 3 nodes, opset 20, one batch size, weights in n.onnx.data"
    assert second == "not compared with the unfused model"


def test_pt2(tmp_path: Path) -> None:
    made = bnfuse.export_pt2(MODEL, tmp_path / "net.pt2", (X,))
    assert str(made).startswith(f"{tmp_path / 'net.pt2'}: any batch size\n")
    assert FOLDED in str(made)


def test_engines_and_repositories() -> None:
    report = bnfuse.report(bnfuse.optimize(MODEL))
    engine = TensorrtExport(
        path=Path("n.engine"),
        verification=None,
        graph_verification=None,
        note="no GPU here can load it.",
        layers={"CONVOLUTION": 2, "ACTIVATION": 1},
        seconds=1.0,
        built_by="TensorRT 10",
        compute_capabilities=("8.6", "8.9"),
        dynamic_batch=True,
        report=report,
    )
    first, *others = str(engine).splitlines()
    assert first == (
        "n.engine: 3 layers, built by TensorRT 10, for compute capability 8.6, 8.9, "
        "several batch sizes"
    )
    assert others[:2] == ["not compared with the unfused model", "no GPU here can load it."]
    served = TritonExport(Path("m/net"), 2, "python", "", False, None, "It was not served.", report)
    assert str(served).startswith("m/net: version 2, run by python\n")
    assert "It was not served." in str(served)


def test_every_comparison_is_told() -> None:
    check = bnfuse.verify(MODEL, bnfuse.optimize(MODEL), (X,))
    told = summary(Path("n"), ["a fact"], [None, check], "", bnfuse.report(bnfuse.optimize(MODEL)))
    assert told.splitlines()[:2] == ["n: a fact", check.headline]
