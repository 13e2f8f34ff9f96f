"""Exported files on an NVIDIA GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

import bnfuse
from bnfuse.export.runtime import OnnxSession, file_device
from bnfuse.zoo import load_model

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(file_device() != "cuda", reason="onnxruntime has no GPU here"),
]
MODELS = ("timm:test_resnet", "timm:test_efficientnet", "timm:levit_128s", "timm:fastvit_t8")


@pytest.mark.parametrize("name", MODELS)
def test_onnx_file_is_equal_on_the_gpu(tmp_path: Path, name: str) -> None:
    loaded = load_model(name)
    path = tmp_path / "net.onnx"
    done = bnfuse.export_onnx(loaded.model, path, loaded.example_inputs)
    assert done.verification is not None
    assert done.verification.device == "cuda, onnxruntime CUDAExecutionProvider"
    again = bnfuse.verify(loaded.model, path, loaded.example_inputs, device="cuda")
    assert again.passed, again
    assert again.device == "cuda, onnxruntime CUDAExecutionProvider"


def test_half_precision_on_the_gpu(tmp_path: Path) -> None:
    loaded = load_model("timm:test_resnet")
    path = tmp_path / "net.onnx"
    done = bnfuse.export_onnx(loaded.model, path, loaded.example_inputs, dtype=torch.float16)
    assert done.verification is not None
    assert done.verification.passed
    assert OnnxSession(path, cuda=True).dtype is torch.float16


def test_model_and_example_on_the_gpu(tmp_path: Path) -> None:
    loaded = load_model("timm:test_resnet")
    model, call = loaded.model.cuda(), tuple(x.cuda() for x in loaded.example_inputs)
    for kind, export in (("onnx", bnfuse.export_onnx), ("pt2", bnfuse.export_pt2)):
        done = export(model, tmp_path / f"net.{kind}", call)
        assert done.verification is not None
        assert done.verification.passed
        assert done.dynamic_batch
