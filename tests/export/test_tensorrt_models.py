"""Engines of whole networks: ``pytest -m slow tests/export/test_tensorrt_models.py``."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch

import bnfuse
import bnfuse.export.tensorrt as exporting
from bnfuse.export.tensorrt_build import build
from bnfuse.export.tensorrt_facts import read_facts
from bnfuse.zoo import load_model

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.export.tensorrt_build import Built

pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
pytestmark = pytest.mark.slow
CONVOLUTIONS = {
    "torchvision:resnet50": 53,
    "timm:mobilenetv3_large_100": 63,
    "timm:repvgg_a0": 22,
    "timm:levit_128s": 4,
}
RENUMBERED = ("timm:mobilenetv3_large_100",)
"""In whose engines the library numbers the values in another order each time."""


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_engine_in_half_precision_of_any_batch(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = list[bool]()

    def build_twice(*arguments: Any) -> Built:
        first, second = build(*arguments), build(*arguments)
        again.append(first.engine == second.engine)
        assert (first.layers, first.graph_sha256) == (second.layers, second.graph_sha256)
        return first

    monkeypatch.setattr(exporting, "build", build_twice)
    loaded = load_model(name)
    done = bnfuse.export_tensorrt(
        loaded.model, tmp_path / "net.engine", loaded.example_inputs, dtype=torch.float16
    )
    (port,) = read_facts(done.path).inputs
    assert (port.dtype, port.shape) == ("HALF", (-1, 3, 224, 224))
    assert (port.smallest[0], port.largest[0]) == (1, 32)
    assert done.layers["CONVOLUTION"] == CONVOLUTIONS[name]
    assert "SCALE" not in done.layers  # which batch norms would be
    assert done.report.kept == ()
    assert done.graph_verification is not None
    assert done.graph_verification.passed
    assert again == [True] or name in RENUMBERED
