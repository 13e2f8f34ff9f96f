"""Where one kernel ends a layer on a GPU, and what it computes; an interpreter stands for a GPU."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnfuse.kernels import Activation, FusedLayer, triton_probe
from tests.kernels.interpreted import (
    LAST,
    LAYOUTS,
    SILU,
    X,
    chosen,
    interpreter,
    launches,
    run,
    stand_in,
    unless_gpu,
)
from tests.kernels.support import conv, drawn, error, fused, kernels_of, layer

__all__ = ["interpreter", "launches", "stand_in", "unless_gpu"]
RELU = Activation("relu")
pytestmark = [
    pytest.mark.usefixtures("unless_gpu"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),
]


@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("options", [{}, {"stride": 2, "groups": 8}, {"bias": False}], ids=str)
@pytest.mark.parametrize("binary", ["add", "iadd", "mul"])
def test_numbers_and_layout(
    binary: str, options: dict[str, Any], layout: torch.memory_format, launches: list[Tensor]
) -> None:
    plain = conv(**options).to(memory_format=layout)
    made, x = fused(plain, binary, SILU), X.contiguous(memory_format=layout)
    y = plain(x)
    other = drawn(*y.shape, seed=1).contiguous(memory_format=layout)
    got = run(made, x, other)
    assert error(got, made.epilogue.plain(y, (other,))) < 1e-6
    assert got.stride() == y.stride()
    assert [seen.data_ptr() for seen in launches] == [got.data_ptr()]


@pytest.mark.parametrize(
    ("plain", "x"),
    [
        (layer(nn.Conv3d, 8, 8, 3), drawn(2, 8, 5, 6, 7)),
        (layer(nn.Conv3d, 8, 8, 3), drawn(2, 8, 5, 6, 7).to(memory_format=torch.channels_last_3d)),
        (layer(nn.Conv1d, 8, 16, 5, 2, 4, 2, groups=4), drawn(2, 8, 50)),
        (layer(nn.ConvTranspose2d, 8, 4, 3, stride=2, output_padding=1), X),
        (layer(nn.Linear, 8, 6), drawn(3, 5, 8)),
    ],
    ids=["volume", "volume last", "signal", "transposed", "linear"],
)
def test_other_layers(plain: Any, x: Tensor, launches: list[Tensor]) -> None:
    y = plain(x)
    layout = torch.channels_last_3d if not y.is_contiguous() else torch.contiguous_format
    other = drawn(*y.shape, seed=1).contiguous(memory_format=layout)
    got = run(fused(plain, "add", SILU), x, other)
    assert error(got, nn.functional.silu(y + other)) < 1e-6
    assert len(launches) == 1


@pytest.mark.parametrize(
    ("made", "is_taken"),
    [
        (fused(conv(), "", SILU), True),
        (fused(conv(), "add"), True),
        (fused(conv()), True),
        (fused(conv(bias=False), "", SILU), False),
        (fused(conv(bias=False)), False),
        (fused(conv(bias=False), "add", SILU), True),
    ],
    ids=str,
)
def test_two_operators_or_a_bias(made: Any, is_taken: bool) -> None:
    assert (chosen(made, X) is not None) == is_taken


def test_linear_layers_add_their_bias() -> None:
    x = drawn(3, 8)
    assert chosen(fused(layer(nn.Linear, 8, 6), "", SILU), x) is None
    assert chosen(fused(layer(nn.Linear, 8, 6), "add"), x) is None
    sample = fused(layer(nn.Conv1d, 8, 6, 1), "add", SILU).half()
    assert chosen(sample, drawn(2, 8, 1).half()) is None
    assert chosen(sample, drawn(2, 8, 2).half()) is not None
    pixel = fused(layer(nn.Conv2d, 8, 6, 1), "add", SILU).half()
    assert chosen(pixel, drawn(2, 8, 1, 1).half()) is None
    assert chosen(pixel, drawn(2, 8, 1, 2).half()) is not None


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_probe, "find_spec", lambda _: None)
    assert chosen(fused(conv(), "", SILU), X) is None


def test_a_bias_that_does_not_fit_is_told_by_pytorch() -> None:
    kernel = chosen(fused(conv(), "", SILU), X)
    assert kernel is not None
    for bias in (drawn(1), drawn(8, 1), drawn(9)):
        with pytest.raises(RuntimeError):
            kernel(X, bias)


gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


def net(layout: torch.memory_format) -> nn.Sequential:
    """Return fused layers of MobileNet's kind, in half precision on the GPU."""
    plain = [
        (layer(nn.Conv2d, 3, 16, 3, stride=2, padding=1), Activation("hardswish")),
        (layer(nn.Conv2d, 16, 16, 3, padding=1, groups=16), RELU),
        (layer(nn.Conv2d, 16, 64, 1), SILU),
        (layer(nn.Conv2d, 64, 64, 5, padding=2, groups=64), Activation("gelu", (), "none")),
    ]
    made = nn.Sequential(*(fused(each, "", activation) for each, activation in plain))
    return made.to("cuda", torch.float16).to(memory_format=layout)


@gpu
@needs_gpu
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
def test_a_model_in_a_cuda_graph(layout: torch.memory_format) -> None:
    model, x = net(layout), drawn(4, 3, 32, 32).to("cuda", torch.float16, memory_format=layout)
    other = drawn(4, 3, 32, 32, seed=1).to("cuda", torch.float16, memory_format=layout)
    wanted, changed = model(x).clone(), model(other).clone()
    before = len(triton_probe._KNOWN)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = model(x)
    assert len(triton_probe._KNOWN) == before
    for _ in range(2):
        got.zero_()
        graph.replay()
        assert torch.equal(got, wanted)
    x.copy_(other)
    graph.replay()
    assert torch.equal(got, changed)


@gpu
@needs_gpu
def test_a_side_stream() -> None:
    model, x = net(LAST), drawn(64, 3, 128, 128).to("cuda", torch.float16, memory_format=LAST)
    wanted = model(x).clone()
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's
    torch.cuda.synchronize()
    with torch.cuda.stream(side):
        for _ in range(20):
            got = model(x)
    side.synchronize()
    assert torch.equal(got, wanted)


@gpu
@needs_gpu
def test_the_launcher_is_used_and_costs_no_more_kernels() -> None:
    made, x = fused(conv().cuda(), "add", SILU), X.cuda()
    made(x, x)
    assert all(
        kernel is not None and kernel.is_direct for kernel, _ in triton_probe._KNOWN.values()
    )
    activities = [torch.profiler.ProfilerActivity.CUDA]
    with torch.profiler.profile(activities=activities, acc_events=True) as seen:
        made(x, x)
        torch.cuda.synchronize()
    names = [event.key for event in seen.key_averages() if "epilogue_kernel" in event.key]
    assert len(names) == 1


@gpu
@needs_gpu
def test_inference_mode_and_frozen_models() -> None:
    made, x = fused(conv().cuda(), "add", SILU), X.cuda()
    wanted = made(x, x)
    with torch.inference_mode():
        assert torch.equal(made(x, x), wanted)
    assert isinstance(made, FusedLayer)
    assert None not in kernels_of(made).values()
