"""What the benchmark of GPUs measures, and in which order."""

from __future__ import annotations

import importlib
import inspect

import timm
import torch
from torch import nn

from benchmarks.gpu_plan import MODELS, SHAPES, TELLING, ConvShape, Task, plan

PLAN = plan()


def first(part: str) -> int:
    """Return the place of the first task with a text in its name."""
    return next(i for i, task in enumerate(PLAN) if part in task.name)


def last(part: str) -> int:
    return max(i for i, task in enumerate(PLAN) if part in task.name)


def test_every_task_is_there_once_and_can_be_called() -> None:
    assert len({task.name for task in PLAN}) == len(PLAN)
    for task in PLAN:
        module, _, name = task.function.partition(":")
        function = getattr(importlib.import_module(module), name)
        inspect.signature(function).bind(**task.arguments)


def test_all_models_are_verified_and_timed() -> None:
    for kind, settings in (("verified", 3), ("eager", 4)):
        found = [t.arguments["model"] for t in PLAN if t.name.startswith(kind)]
        assert {model: found.count(model) for model in found} == dict.fromkeys(MODELS, settings)


def test_the_most_important_comes_first() -> None:
    order = (
        last("verified"),
        first("schemas"),
        last("conv layer4.0.conv3 float16 True 128"),
        first("eager resnet50"),
        first("eager levit_128s"),
        first("accuracy float32"),
        first("compiled resnet50 float16 32 default"),
        first("compiled levit_128s"),
        first("compiled resnet50 float16 1 default"),
        first("conv conv1 float32 False"),
        first("max-autotune"),
    )
    assert list(order) == sorted(order)
    assert all("max-autotune" in task.name for task in PLAN[order[-1] :])
    assert {t.arguments["model"] for t in PLAN[order[-1] :]} == {"resnet50"}


def test_what_is_first_fits_into_one_run() -> None:
    assert sum(task.expected_s for task in PLAN[: first("compiled")]) < 450


def test_the_shapes_are_those_of_resnet50() -> None:
    found: dict[str, ConvShape] = {}

    def note(name: str, conv: nn.Conv2d, args: tuple[torch.Tensor]) -> None:
        shape = ConvShape(
            conv.in_channels,
            conv.out_channels,
            conv.kernel_size[0],
            conv.stride[0],
            args[0].shape[-1],
            residual=name.endswith("conv3"),
        )
        assert conv.padding == (shape.padding, shape.padding)
        if shape not in found.values():
            found[name] = shape

    with torch.device("meta"):
        model = timm.create_model("resnet50").eval()
        for name, module in model.named_modules():
            if isinstance(module, nn.Conv2d) and "downsample" not in name:
                module.register_forward_pre_hook(lambda m, a, name=name: note(name, m, a))
        model(torch.empty(1, 3, 224, 224))
    assert found == SHAPES
    assert set(TELLING) < set(SHAPES)


def test_a_task_may_take_six_times_what_is_expected() -> None:
    assert Task("probes", "m:f", expected_s=30).limit_s == 180
    assert Task("probes", "m:f", expected_s=1).limit_s == 60
