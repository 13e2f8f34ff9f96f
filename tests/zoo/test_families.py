"""Ten of the 50 families that ``benchmarks/zoo.py`` takes: nothing is left, and outputs agree."""

from __future__ import annotations

import pytest
import torch

import bnfuse
from bnfuse.zoo import load_model

FAMILIES = (
    "test_byobnet", "test_efficientnet", "test_resnet", "test_coatnet", "levit_128s",
    "visformer_tiny", "inception_next_atto", "starnet_s050", "lcnetv2_small", "xcit_nano_12_p8_224",
)  # fmt: skip


@pytest.mark.parametrize("name", FAMILIES)
def test_no_batch_norm_is_left(name: str) -> None:
    loaded = load_model(f"timm:{name}")
    model, inputs = loaded.model.double(), [x.double() for x in loaded.example_inputs]
    fused = bnfuse.optimize(model)
    report = bnfuse.report(fused)
    assert report.total > 0
    assert not report.kept
    assert not report.undone
    with torch.no_grad():
        wanted, got = model(*inputs), fused(*inputs)
    assert float((got - wanted).abs().max()) <= 1e-9 * float(wanted.abs().max())
