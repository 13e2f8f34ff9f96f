"""Real models of torchvision and timm fold completely and stay equal."""

from __future__ import annotations

import copy

import pytest
import torch

import bnfuse
from bnfuse.zoo import load_model

MODELS = {
    "torchvision:resnet50": 53,
    "torchvision:mobilenet_v3_large": 46,
    "torchvision:shufflenet_v2_x0_5": 56,
    "torchvision:regnet_x_400mf": 71,
    "torchvision:deeplabv3_mobilenet_v3_large": 53,
    "torchvision:r2plus1d_18": 37,
    "timm:test_resnet": 15,
    "timm:test_efficientnet": 13,
    "timm:mobilenetv3_small_050": 34,
    "timm:regnetx_002": 44,
    "timm:cspnext_tiny": 33,
    "timm:ese_vovnet19b_slim_dw": 22,
    "timm:tresnet_m": 60,
}


@pytest.mark.parametrize("name", MODELS)
def test_folds_completely_and_verifies(name: str) -> None:
    loaded = load_model(name)
    model, inputs = loaded.model.double(), tuple(x.double() for x in loaded.example_inputs)
    before = copy.deepcopy(model.state_dict())
    fused = bnfuse.optimize(model)
    report = bnfuse.report(fused)
    assert len(report.folded) == MODELS[name]
    assert not report.kept
    outcome = bnfuse.verify(model, fused, inputs).raise_if_failed()
    assert outcome.max_rel_error <= 1e-12
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)
