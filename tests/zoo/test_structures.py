"""Models of torchvision whose inputs or outputs are no single tensor."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torchvision import models

import bnfuse
from bnfuse.zoo import randomize_statistics
from tests.support import noise


def made(name: str, **options: Any) -> nn.Module:
    """Return a model with random weights and statistics, without downloading anything."""
    torch.manual_seed(0)
    return randomize_statistics(models.get_model(name, weights=None, **options)).eval()


def tensors(value: Any) -> list[torch.Tensor]:
    """Return the tensors in nested outputs, in order."""
    if isinstance(value, torch.Tensor):
        return [value]
    parts = value.values() if isinstance(value, dict) else value
    return [tensor for part in parts for tensor in tensors(part)]


def assert_equal(got: Any, wanted: Any) -> None:
    """Compare nested outputs in type and value."""
    assert type(got) is type(wanted)
    pairs = list(zip(tensors(got), tensors(wanted), strict=True))
    assert pairs
    for mine, theirs in pairs:
        assert mine.shape == theirs.shape
        assert float((mine - theirs).abs().max()) <= 1e-10 * float(theirs.abs().max())


def test_segmentation() -> None:
    model = made("lraspp_mobilenet_v3_large", weights_backbone=None).double()
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == bnfuse.report(fused).total == 47
    x = noise(1, 3, 64, 64)
    with torch.no_grad():
        assert_equal(fused(x), model(x))


@pytest.mark.parametrize(
    ("name", "count"), [("ssdlite320_mobilenet_v3_large", 70), ("fasterrcnn_resnet50_fpn_v2", 65)]
)
def test_detection(name: str, count: int) -> None:
    """Rounding decides the order of detections with equal scores, so features are compared."""
    model = made(name, weights_backbone=None).double()
    fused = bnfuse.optimize(model)
    report = bnfuse.report(fused)
    assert (len(report.folded), report.total) == (count, count)
    x = noise(1, 3, 128, 128)
    with torch.no_grad():
        assert_equal(fused.backbone(x), model.backbone(x))  # type: ignore[operator]  # a module
        got, wanted = fused(list(x)), model(list(x))
    assert [type(found) for found in got] == [type(found) for found in wanted] == [dict]
    assert [list(found) for found in got] == [list(found) for found in wanted]


def test_optical_flow() -> None:
    model = made("raft_large")
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 15
    first, second = (noise(1, 3, 128, 128, seed=seed).float() for seed in (1, 2))
    assert bnfuse.verify(model, fused, (first, second)).passed
