"""What ``gpu.py`` measures, most important first."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

MODELS = (
    "resnet50",
    "mobilenetv3_large_100",
    "efficientnet_b0",
    "repvgg_a0",
    "mobileone_s0",
    "fastvit_t8",
    "densenet121",
    "levit_128s",
)
DTYPES = ("float32", "float16", "bfloat16")
PROBED = (("float16", True), ("bfloat16", True), ("float32", True), ("float32", False))
"""Dtypes of the probes, and whether TF32 is allowed, which matters for float32 alone."""
SETTINGS = (("float16", 1), ("float16", 32), ("float32", 1), ("float32", 32))
"""Dtype and batch of the latencies."""
ENDINGS = (
    (32, "float16", True),
    (1, "float16", True),
    (1, "float16", False),
    (32, "float32", False),
    (32, "float16", False),
)
"""Batch, dtype and whether channels last, of the kernels behind convolutions."""
MODES = ("default", "reduce-overhead", "freezing")
BATCHES = (1, 8, 128)


@dataclass(frozen=True)
class ConvShape:
    """A convolution of ResNet-50 at 224 x 224, square in every respect.

    Attributes:
        channels: How many channels go in.
        out: How many come out.
        kernel: The length of an edge of the kernel.
        stride: The stride.
        size: The length of an edge of the input.
        residual: Whether a second value is added before the relu.
        groups: Into how many parts the channels fall.
    """

    channels: int
    out: int
    kernel: int
    stride: int
    size: int
    residual: bool = False
    groups: int = 1

    @property
    def padding(self) -> int:
        """Half a kernel, as everywhere in ResNet-50."""
        return self.kernel // 2


SHAPES = {
    "conv1": ConvShape(3, 64, 7, 2, 224),
    "layer1.0.conv1": ConvShape(64, 64, 1, 1, 56),
    "layer1.0.conv2": ConvShape(64, 64, 3, 1, 56),
    "layer1.0.conv3": ConvShape(64, 256, 1, 1, 56, residual=True),
    "layer1.1.conv1": ConvShape(256, 64, 1, 1, 56),
    "layer2.0.conv1": ConvShape(256, 128, 1, 1, 56),
    "layer2.0.conv2": ConvShape(128, 128, 3, 2, 56),
    "layer2.0.conv3": ConvShape(128, 512, 1, 1, 28, residual=True),
    "layer2.1.conv1": ConvShape(512, 128, 1, 1, 28),
    "layer2.1.conv2": ConvShape(128, 128, 3, 1, 28),
    "layer3.0.conv1": ConvShape(512, 256, 1, 1, 28),
    "layer3.0.conv2": ConvShape(256, 256, 3, 2, 28),
    "layer3.0.conv3": ConvShape(256, 1024, 1, 1, 14, residual=True),
    "layer3.1.conv1": ConvShape(1024, 256, 1, 1, 14),
    "layer3.1.conv2": ConvShape(256, 256, 3, 1, 14),
    "layer4.0.conv1": ConvShape(1024, 512, 1, 1, 14),
    "layer4.0.conv2": ConvShape(512, 512, 3, 2, 14),
    "layer4.0.conv3": ConvShape(512, 2048, 1, 1, 7, residual=True),
    "layer4.1.conv1": ConvShape(2048, 512, 1, 1, 7),
    "layer4.1.conv2": ConvShape(512, 512, 3, 1, 7),
}
"""Those that a relu follows, each once, under the name of the first layer that has the shape."""
GROUPED = {
    "depthwise 3": ConvShape(96, 96, 3, 1, 56, groups=96),
    "depthwise 3 stride 2": ConvShape(96, 96, 3, 2, 112, groups=96),
    "depthwise 5": ConvShape(240, 240, 5, 1, 28, groups=240),
    "depthwise 7": ConvShape(192, 192, 7, 1, 28, groups=192),
    "32 groups": ConvShape(256, 256, 3, 1, 28, groups=32),
}
"""Of MobileNet, EfficientNet, ConvNeXt and ResNeXt, with a relu behind."""
ENDED = {
    "expand": (ConvShape(16, 96, 1, 1, 112), "silu"),
    "depthwise": (ConvShape(96, 96, 3, 2, 112, groups=96), "silu"),
    "stem": (ConvShape(3, 16, 3, 2, 224), "hardswish"),
    "depthwise relu": (ConvShape(64, 64, 3, 2, 112, groups=64), "relu"),
    "depthwise 5": (ConvShape(672, 672, 5, 1, 14, groups=672), "hardswish"),
    "expand late": (ConvShape(160, 960, 1, 1, 7), "hardswish"),
    "project": (ConvShape(144, 24, 1, 1, 56, residual=True), ""),
    "project plain": (ConvShape(96, 24, 1, 1, 56), ""),
}
"""Of EfficientNet-B0 and MobileNetV3, with the activation behind, or none."""
ENDED_FIRST = ("expand", "depthwise", "depthwise 5", "project")
TELLING = ("conv1", "layer1.0.conv2", "layer1.0.conv3", "layer3.1.conv2", "layer4.0.conv3")


@dataclass(frozen=True)
class Task:
    """One measurement, which makes one row.

    Attributes:
        kind: ``verify``, ``probes``, ``endings`` or ``latency``.
        function: What measures it, as ``module:function``.
        arguments: Its keyword arguments: names and numbers, which are kept in the row.
        expected_s: About how many seconds it takes.
    """

    kind: str
    function: str
    arguments: dict[str, Any] = field(default_factory=dict)
    expected_s: float = 3.0

    @property
    def name(self) -> str:
        """What it is called in the results."""
        words = [self.function.partition(":")[2], *map(str, self.arguments.values())]
        return " ".join(words)

    @property
    def limit_s(self) -> float:
        """After how many seconds it counts as stuck."""
        return max(60.0, 6 * self.expected_s)


def plan() -> list[Task]:
    """Return every task in the order they are done in."""
    first, *others = MODELS
    tasks = [_check(model, dtype) for model in MODELS for dtype in DTYPES]
    tasks += _telling_probes()
    tasks += [_latency(model, *setting) for model in MODELS for setting in SETTINGS[:2]]
    tasks += _endings()
    tasks += [_compiled(model, *SETTINGS[1], MODES[0]) for model in MODELS]
    tasks += [_compiled(first, *setting, mode) for setting in SETTINGS[:2] for mode in MODES]
    tasks.append(_probe("clocks", 20.0, model=first, dtype="float16"))
    tasks += [_latency(model, *setting) for model in MODELS for setting in SETTINGS[2:]]
    tasks += [_compiled(first, *setting, mode) for setting in SETTINGS[2:] for mode in MODES]
    rest = [
        _compiled(model, *setting, mode)
        for setting in SETTINGS
        for model in others
        for mode in MODES
    ]
    tasks += [task for task in [*rest, *_all_probes()] if task not in tasks]
    tasks += [_compiled(first, *setting, "max-autotune") for setting in SETTINGS]
    return list({task.name: task for task in tasks}.values())


def _endings() -> list[Task]:
    """Return what settles how the rest of a layer is to run behind a convolution."""
    tasks = [_ended("accuracy", dtype=dtype) for dtype in DTYPES]
    tasks += _behind_convolutions(*ENDINGS[0])
    for dtype, batch in (SETTINGS[1], SETTINGS[0], SETTINGS[3]):
        tasks += [_ended("whole", 6.0, model=m, dtype=dtype, batch=batch) for m in MODELS[1:3]]
    for setting in ENDINGS[1:]:
        tasks += _behind_convolutions(*setting)
    return [*tasks, *(_ended("blocks", shape=shape, dtype="float16") for shape in ENDED_FIRST[:2])]


def _behind_convolutions(batch: int, dtype: str, is_last: bool) -> list[Task]:
    order = [*ENDED_FIRST, *(shape for shape in ENDED if shape not in ENDED_FIRST)]
    facts: dict[str, Any] = {"dtype": dtype, "batch": batch, "is_last": is_last}
    return [_ended("ending", shape=shape, **facts) for shape in order]


def _ended(function: str, expected_s: float = 1.0, **arguments: Any) -> Task:
    return Task("endings", f"benchmarks.gpu_epilogue:{function}", arguments, expected_s)


def _telling_probes() -> list[Task]:
    """Return what settles whether the fused convolutions of cuDNN can be built upon."""
    tasks = [_probe("schemas", 1.0)]
    tasks += [_conv(shape, "float16", True, batch) for shape in TELLING for batch in (1, 128)]
    tasks += [_probe("stem", dtype="float16", batch=batch) for batch in (1, 128)]
    tasks += [_probe("aliased", dtype="float16", kernel=kernel) for kernel in (1, 3)]
    tasks += [_probe("poison", dtype="float16", shape=shape) for shape in TELLING]
    tasks += [_probe("nan", dtype=dtype) for dtype in DTYPES]
    tasks += [_conv(shape, "float16", True, batch) for shape in GROUPED for batch in (1, 32)]
    tasks += [_conv(shape, "float32", True, batch) for shape in TELLING for batch in (1, 32)]
    return tasks


def _all_probes() -> list[Task]:
    tasks = [
        _conv(shape, *probed, batch) for probed in PROBED for batch in BATCHES for shape in SHAPES
    ]
    for dtype in DTYPES:
        tasks += [_probe("stem", dtype=dtype, batch=batch) for batch in BATCHES]
        tasks += [_probe("aliased", dtype=dtype, kernel=kernel) for kernel in (1, 3)]
        tasks += [_probe("poison", dtype=dtype, shape=shape) for shape in TELLING]
    return tasks


def _check(model: str, dtype: str) -> Task:
    return Task("verify", "benchmarks.gpu_checks:verified", {"model": model, "dtype": dtype}, 5.0)


def _probe(function: str, expected_s: float = 2.0, **arguments: Any) -> Task:
    module = "gpu_clocks" if function == "clocks" else "gpu_probes"
    return Task("probes", f"benchmarks.{module}:{function}", arguments, expected_s)


def _conv(shape: str, dtype: str, tf32: bool, batch: int) -> Task:
    return _probe("conv", shape=shape, dtype=dtype, tf32=tf32, batch=batch)


def _latency(model: str, dtype: str, batch: int) -> Task:
    arguments = {"model": model, "dtype": dtype, "batch": batch}
    return Task("latency", "benchmarks.gpu_latency:eager", arguments, 8.0)


def _compiled(model: str, dtype: str, batch: int, mode: str) -> Task:
    arguments = {"model": model, "dtype": dtype, "batch": batch, "mode": mode}
    seconds = 150.0 if mode == "max-autotune" else 30.0
    return Task("latency", "benchmarks.gpu_latency:compiled", arguments, seconds)
