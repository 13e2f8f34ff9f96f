"""Hugging Face models, built from small configurations: data classes out, optional arguments in."""

from __future__ import annotations

import copy
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
import torch

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # read when transformers is imported

import bnfuse
from bnfuse.zoo import randomize_statistics
from tests.support import noise
from tests.zoo.test_structures import assert_equal

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

transformers = pytest.importorskip("transformers")


def resnet_config(**options: Any) -> Any:
    return transformers.ResNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 2], **options
    )


def resnet() -> nn.Module:
    return transformers.ResNetForImageClassification(resnet_config())


def regnet() -> nn.Module:
    config = transformers.RegNetConfig(
        embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], groups_width=4
    )
    return transformers.RegNetForImageClassification(config)


def mobilenet_v2() -> nn.Module:
    config = transformers.MobileNetV2Config(depth_multiplier=0.25)
    return transformers.MobileNetV2ForImageClassification(config)


def efficientnet() -> nn.Module:
    config = transformers.EfficientNetConfig(
        width_coefficient=0.25, depth_coefficient=0.25, hidden_dim=320
    )
    return transformers.EfficientNetForImageClassification(config)


def segformer() -> nn.Module:
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 16, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 2, 2, 2],
        decoder_hidden_size=16,
    )
    return transformers.SegformerForSemanticSegmentation(config)


def detr() -> nn.Module:
    """Its backbone's batch norms are replaced by frozen ones written by hand."""
    config = transformers.DetrConfig(
        use_timm_backbone=False,
        use_pretrained_backbone=False,
        backbone=None,
        backbone_config=resnet_config(out_features=["stage2"]),
        d_model=16,
        num_queries=5,
        **{f"{part}_layers": 1 for part in ("encoder", "decoder")},
        **{f"{part}_ffn_dim": 16 for part in ("encoder", "decoder")},
        **{f"{part}_attention_heads": 2 for part in ("encoder", "decoder")},
    )
    return transformers.DetrForObjectDetection(config)


def levit() -> nn.Module:
    """Its batch norms follow linear layers on tokens, or a flatten between the two."""
    config = transformers.LevitConfig(
        image_size=64,
        hidden_sizes=[16, 24, 32],
        num_attention_heads=[2, 3, 4],
        depths=[1, 1, 1],
        key_dim=[8, 8, 8],
    )
    return transformers.LevitForImageClassification(config)


def mobilevit() -> nn.Module:
    config = transformers.MobileViTConfig(
        hidden_sizes=[16, 24, 32], neck_hidden_sizes=[8, 8, 12, 16, 16, 16, 32]
    )
    return transformers.MobileViTForImageClassification(config)


@dataclass(frozen=True, slots=True)
class Sample:
    """A model and what becomes of its batch norms.

    Attributes:
        build: Makes it.
        total: How many batch norms are reported.
        bare: How many of them fold without example inputs.
        sized: How many fold with them.
        one_size: Whether it accepts one size of image only.
    """

    build: Callable[[], nn.Module]
    total: int
    bare: int
    sized: int
    one_size: bool = False


SAMPLES = (
    Sample(resnet, 11, 11, 11),
    Sample(regnet, 9, 9, 9),
    Sample(mobilenet_v2, 52, 0, 52),
    Sample(efficientnet, 22, 22, 22),
    Sample(segformer, 1, 0, 1),
    Sample(detr, 0, 0, 0),
    Sample(levit, 27, 27, 27, one_size=True),
    Sample(mobilevit, 32, 32, 32),
)
EXAMPLE, LARGER = noise(1, 3, 64, 64), noise(2, 3, 96, 96, seed=2)
each_sample = pytest.mark.parametrize("sample", SAMPLES, ids=lambda sample: sample.build.__name__)


def made(sample: Sample) -> nn.Module:
    """Return the model in float64 and eval mode, with random weights and statistics."""
    torch.manual_seed(0)
    return randomize_statistics(sample.build()).double().eval()


def assert_same_calls(sample: Sample, fused: nn.Module, model: nn.Module) -> None:
    """Compare calls of every form: class of the output, its keys in order, and its values."""
    calls: list[tuple[torch.Tensor, dict[str, Any]]] = [
        (EXAMPLE, {}),
        (EXAMPLE, {"return_dict": False}),
        (EXAMPLE, {"output_hidden_states": True}),
    ]
    calls += [] if sample.one_size else [(LARGER, {}), (LARGER, {"return_dict": False})]
    for image, options in calls:
        with torch.no_grad():
            got, wanted = fused(image, **options), model(image, **options)
        assert isinstance(
            got, tuple if "return_dict" in options else transformers.utils.ModelOutput
        )
        if not isinstance(got, tuple):
            assert list(got) == list(wanted)
        assert_equal(got, wanted)
    with torch.no_grad():
        assert_equal(fused(pixel_values=EXAMPLE), model(pixel_values=EXAMPLE))


@each_sample
@pytest.mark.parametrize("example", [None, (EXAMPLE,)], ids=["bare", "example"])
def test_folds_and_stays_equal(sample: Sample, example: tuple[torch.Tensor] | None) -> None:
    model = made(sample)
    before = copy.deepcopy(model.state_dict())
    fused = bnfuse.optimize(model, example)
    report = bnfuse.report(fused)
    folded = sample.bare if example is None else sample.sized
    assert (len(report.folded), report.total) == (folded, sample.total)
    assert_same_calls(sample, fused, model)
    after = model.state_dict()
    assert list(before) == list(after)
    assert all(torch.equal(before[key], after[key]) for key in before)


def test_a_size_that_a_model_refuses_is_refused_alike() -> None:
    model = made(next(sample for sample in SAMPLES if sample.one_size))
    fused = bnfuse.optimize(model)
    for one in (model, fused):
        with pytest.raises(RuntimeError, match="must match the size of tensor"):
            one(LARGER)
