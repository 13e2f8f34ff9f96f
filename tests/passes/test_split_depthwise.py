"""Splitting depthwise convolutions: fires, declines, numbers, graph, idempotence."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.optimizer import rewritten
from bnfuse.passes import ONNX_PIPELINE, PIPELINE, Applied, run_pass
from bnfuse.passes.split_depthwise import SplitDepthwise
from tests.support import noise, program_of, ready, relative_error, sequential

if TYPE_CHECKING:
    from pathlib import Path


def pair(
    multiplier: int = 2, channels: int = 16, *, kernel: int = 3, **options: object
) -> nn.Module:
    """Return a depthwise convolution with a multiplier and a convolution that reads it."""
    made = channels * multiplier
    settings: dict[str, Any] = {"groups": channels, "padding": kernel // 2, **options}
    first = nn.Conv2d(channels, made, kernel, **settings)
    return ready(nn.Sequential(first, nn.Conv2d(made, 5, 1)))


def split(model: nn.Module, *inputs: torch.Tensor) -> list[str]:
    """Run the pass twice, compare in float64, and return what the graph calls."""
    wanted = [model(x) for x in inputs]
    program = program_of(model)
    applied = run_pass(program, SplitDepthwise()).applied
    assert all(isinstance(row, Applied) for row in applied)
    made = torch.fx.GraphModule(program.root, program.graph)
    for x, y in zip(inputs, wanted, strict=True):
        assert relative_error(made(x), y) < 1e-14
    assert not run_pass(program, SplitDepthwise()).modified
    return [str(node.target) for node in program.graph.nodes if node.op.startswith("call")]


@pytest.mark.parametrize("multiplier", [2, 3, 8])
@pytest.mark.parametrize("bias", [True, False], ids="bias={}".format)
@pytest.mark.parametrize("stride", [1, (2, 1)], ids=str)
@pytest.mark.parametrize("kernel", [1, 3, 7])
def test_fires(multiplier: int, bias: bool, stride: object, kernel: int) -> None:
    model = pair(multiplier, kernel=kernel, bias=bias, stride=stride)
    calls = split(model, noise(2, 16, 9, 8), noise(16, 9, 8))
    assert len(calls) == multiplier + 2


def test_dilation_and_padding_of_either_spelling() -> None:
    settings: list[dict[str, Any]] = [
        {"padding": "same", "dilation": 2},
        {"padding": "valid"},
        {"padding": (2, 0)},
    ]
    for options in settings:
        assert len(split(pair(**options), noise(2, 16, 9, 8))) == 4


def test_a_convolution_with_a_kernel_behind() -> None:
    first = nn.Conv2d(16, 32, 3, groups=16)
    second = nn.Conv2d(32, 6, 3, padding=1, padding_mode="reflect")
    assert len(split(sequential(first, second), noise(2, 16, 9, 8))) == 4


def test_functions() -> None:
    class Functions(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a = nn.Parameter(noise(32, 1, 3, 3))
            self.b = nn.Parameter(noise(32))
            self.w = nn.Parameter(noise(5, 32, 1, 1))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = nn.functional.conv2d(x, self.a, self.b, groups=16)
            return nn.functional.conv2d(y, weight=self.w)

    assert len(split(ready(Functions()), noise(2, 16, 9, 8))) == 4


def test_a_shared_reader_keeps_its_other_call() -> None:
    class Shared(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.second = nn.Conv2d(16, 32, 3, groups=16), nn.Conv2d(32, 32, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            out: torch.Tensor = self.second(self.second(self.first(x)))
            return out

    assert len(split(ready(Shared()), noise(2, 16, 9, 8))) == 5


class Between(nn.Module):
    """Something between the two convolutions."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind = kind
        self.first, self.second = nn.Conv2d(16, 32, 3, groups=16), nn.Conv2d(32, 5, 1)

    def forward(self, x: torch.Tensor) -> object:
        y = self.first(x)
        if self.kind == "activation":
            return self.second(y.relu())
        return self.second(y), (y if self.kind == "result" else y.sum())


@pytest.mark.parametrize("kind", ["activation", "result", "reader"])
def test_other_readers(kind: str) -> None:
    program = program_of(ready(Between(kind)))
    assert not run_pass(program, SplitDepthwise()).modified


CALLED_OFF = {
    "no-multiplier": pair(1),
    "too-large-a-multiplier": pair(9),
    "few-channels": pair(2, 15),
    "no-depthwise": sequential(nn.Conv2d(32, 64, 3, groups=16), nn.Conv2d(64, 5, 1)),
    "padding-that-is-no-zeros": pair(padding_mode="reflect"),
    "groups-behind": sequential(nn.Conv2d(16, 32, 3, groups=16), nn.Conv2d(32, 4, 1, groups=2)),
    "another-layer-behind": sequential(
        nn.Conv2d(16, 32, 3, groups=16), nn.ConvTranspose2d(32, 4, 1)
    ),
}


@pytest.mark.parametrize("name", CALLED_OFF)
def test_stays(name: str) -> None:
    assert not run_pass(program_of(CALLED_OFF[name]), SplitDepthwise()).modified


def test_other_axes_stay() -> None:
    for conv in (nn.Conv1d, nn.Conv3d):
        model = sequential(conv(16, 32, 3, groups=16), conv(32, 5, 1))
        assert not run_pass(program_of(model), SplitDepthwise()).modified


def test_other_axes_behind_stay() -> None:
    for behind in (nn.Conv1d(8, 5, 3), nn.Conv3d(4, 5, 1)):  # without a batch, or with it as one
        model = sequential(nn.Conv2d(16, 32, 3, groups=16, padding=1), behind)
        model(noise(16, 8, 7) if isinstance(behind, nn.Conv1d) else noise(4, 16, 8, 7))
        assert not run_pass(program_of(model), SplitDepthwise()).modified


def test_hooks_stay() -> None:
    for index in (0, 1):
        model = pair()
        model.get_submodule(str(index)).register_forward_hook(lambda _m, _a, y: y * 2)
        assert not run_pass(program_of(model), SplitDepthwise()).modified


def test_the_graph() -> None:
    program = program_of(pair())
    run_pass(program, SplitDepthwise())
    program.graph.lint()
    wanted = """
        placeholder input
        call_module 0_0
        call_module 0_1
        call_function cat
        call_module 1
        output output
    """
    found = [
        f"{node.op} {getattr(node.target, '__name__', node.target)}" for node in program.graph.nodes
    ]
    assert found == textwrap.dedent(wanted).split("\n")[1:-1]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_folded_weights_in_other_dtypes_pass_the_check(dtype: torch.dtype) -> None:
    """What was rounded once is compared as what it was rounded from, here as there."""
    depthwise, pointwise = pair(3).children()
    layers = (nn.Conv2d(3, 16, 1), depthwise, nn.BatchNorm2d(48), pointwise, nn.BatchNorm2d(5))
    made = rewritten(ready(nn.Sequential(*layers)).to(dtype), pipeline=ONNX_PIPELINE)
    assert len(bnfuse.report(made).folded) == 2
    assert isinstance(made, torch.fx.GraphModule)
    assert [node for node in made.graph.nodes if node.target is torch.cat]


def test_only_a_file_is_split(tmp_path: Path) -> None:
    assert SplitDepthwise() in ONNX_PIPELINE
    assert SplitDepthwise() not in PIPELINE
    model = ready(nn.Sequential(nn.Conv2d(3, 16, 1), pair())).float()
    made = bnfuse.export_onnx(model, tmp_path / "net.onnx", (noise(2, 3, 9, 8).float(),))
    assert made.nodes["Concat"] == 1
    assert made.nodes["Conv"] == 4
