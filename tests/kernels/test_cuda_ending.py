"""What one kernel makes of a layer's result, in Triton's interpreter, and what it leaves alone."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from bnfuse.kernels import Activation, cuda_ending, triton_probe
from bnfuse.kernels.triton_launch import Compiled
from tests.kernels.interpreted import (
    DTYPES,
    LAST,
    LAYOUTS,
    OTHER,
    SILU,
    X,
    chosen,
    interpreter,
    launches,
    run,
    stand_in,
    unless_gpu,
)
from tests.kernels.support import ACTIVATIONS, conv, drawn, error, fused

__all__ = ["interpreter", "launches", "stand_in", "unless_gpu"]
pytestmark = [
    pytest.mark.usefixtures("unless_gpu"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),
]


@pytest.mark.parametrize(
    "other",
    [
        drawn(1, 8, 1, 1),
        OTHER.double(),
        OTHER.contiguous(memory_format=LAST),
        drawn(2, 8, 12, 22)[..., ::2],
        torch.view_as_complex(torch.stack([OTHER, OTHER], -1)).conj().imag,
        drawn(2 * 8 * 12 * 11 + 1)[1:].view(2, 8, 12, 11),
    ],
    ids=["shape", "dtype", "layout", "strides", "negative", "unaligned"],
)
def test_second_values_that_are_left(other: Tensor, launches: list[Tensor]) -> None:
    plain = conv()
    got = run(fused(plain, "add", SILU), X, other)
    assert error(got, nn.functional.silu(plain(X) + other)) < 1e-6
    assert launches == []


@pytest.mark.parametrize(
    "bias",
    [drawn(16)[::2], drawn(9)[1:], drawn(1).expand(8)],
    ids=["strides", "unaligned", "expanded"],
)
def test_biases_that_are_left(bias: Tensor, launches: list[Tensor]) -> None:
    made = fused(conv(), "add", SILU)
    kernel = chosen(made, X)
    assert kernel is not None
    wanted = nn.functional.conv2d(X, made.weight, bias, padding=1)
    assert error(kernel(X, bias, OTHER), nn.functional.silu(wanted + OTHER)) < 1e-6
    assert launches == []


def test_a_bias_that_is_gone(launches: list[Tensor]) -> None:
    made = fused(conv(), "add", SILU)
    kernel = chosen(made, X)
    assert kernel is not None
    wanted = nn.functional.conv2d(X, made.weight, None, padding=1) + OTHER
    for _ in range(2):
        assert error(kernel(X, None, OTHER), nn.functional.silu(wanted)) < 1e-6
        run_with_bias = kernel(X, made.bias, OTHER)
        assert error(run_with_bias, nn.functional.silu(conv()(X) + OTHER)) < 1e-6
    assert len(launches) == 4


def test_larger_sizes_are_left(monkeypatch: pytest.MonkeyPatch, launches: list[Tensor]) -> None:
    monkeypatch.setattr(cuda_ending, "_MOST_ELEMENTS", X.numel() - 1)
    run(fused(conv(), "", SILU), X)
    assert launches == []


def test_nothing_is_compiled_while_a_graph_is_captured(
    monkeypatch: pytest.MonkeyPatch, launches: list[Tensor]
) -> None:
    kernel = chosen(fused(conv(), "", SILU), X)
    assert kernel is not None
    bias, wanted = conv().bias, nn.functional.silu(conv()(X))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert error(kernel(X, bias), wanted) < 1e-6
    assert launches == []
    assert triton_probe._KNOWN == {}
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert error(kernel(X, bias), wanted) < 1e-6
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert error(kernel(X, bias), wanted) < 1e-6
    assert len(launches) == 2


def test_small_results_are_left_where_launches_are_slow(
    monkeypatch: pytest.MonkeyPatch, launches: list[Tensor]
) -> None:
    monkeypatch.setattr(Compiled, "directly", lambda *_: 1 / 0)
    monkeypatch.setattr(cuda_ending, "_LEAST_BYTES", X.nbytes + 1)
    kernel = chosen(fused(conv(), "", SILU), X)
    assert kernel is not None
    bias, wanted = conv().bias, nn.functional.silu(conv()(X))
    assert error(kernel(X, bias), wanted) < 1e-6
    assert launches == []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert error(kernel(X, bias), wanted) < 1e-6
    assert len(launches) == 1


def test_a_bias_alone_is_worth_it_for_large_results_and_in_graphs(
    monkeypatch: pytest.MonkeyPatch, launches: list[Tensor]
) -> None:
    kernel, bias = chosen(fused(conv()), X), conv().bias
    assert kernel is not None
    assert error(kernel(X, bias), conv()(X)) < 1e-6
    assert launches == []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert error(kernel(X, bias), conv()(X)) < 1e-6
    assert len(launches) == 1
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(cuda_ending, "_LEAST_BYTES", X.nbytes)
    large = chosen(fused(conv()), X)
    assert large is not None
    assert error(large(X, bias), conv()(X)) < 1e-6
    assert len(launches) == 2


def test_kernels_that_are_wrong_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_probe, "usable", lambda _: None)
    assert error(run(fused(conv(), "", SILU), X), nn.functional.silu(conv()(X))) < 1e-6


gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
SHAPES = ((2, 16, 12, 11), (3, 24, 14, 14), (1, 40, 28, 28), (2, 8, 7, 7))


@gpu
@needs_gpu
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS], ids=str)
def test_numbers_on_a_gpu(
    activation: Activation | None, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    check_on_gpu(SHAPES[0], "add", activation, dtype, layout)
    if activation == SILU:
        for shape in SHAPES:
            for binary in ("", "mul"):
                check_on_gpu(shape, binary, activation, dtype, layout)


def check_on_gpu(
    shape: tuple[int, ...],
    binary: str,
    activation: Activation | None,
    dtype: torch.dtype,
    layout: torch.memory_format,
) -> None:
    """Compare with float64: no more may be off than with PyTorch's own operators."""
    y, other = (3 * drawn(*shape, seed=seed) for seed in (0, 1))
    y[0, 0, 0, :4] = torch.tensor([torch.nan, torch.inf, -torch.inf, -0.0])
    y, other = (t.to("cuda", dtype).contiguous(memory_format=layout) for t in (y, other))
    bias = drawn(shape[1], seed=2).to("cuda", dtype)
    epilogue = fused(conv(), binary, activation).epilogue
    others = (other,) if binary else ()
    exact = epilogue.plain(
        y.double() + bias.double().view(-1, 1, 1), tuple(o.double() for o in others)
    )
    plain = epilogue.plain(y + bias.view(-1, 1, 1), others)
    got = cuda_ending.Ending(epilogue, y.get_device())(y.clone(), bias, others)
    assert got.stride() == y.stride()
    assert torch.equal(got.isnan(), plain.isnan())
    assert torch.equal(got[plain.isinf()], plain[plain.isinf()])
    known = [kernel for key, (kernel, _) in triton_probe._KNOWN.items() if key.dtype is dtype]
    assert known
    assert None not in known
    own, allowed = off(got, exact), off(plain, exact)
    assert own <= allowed + (4e-7 if dtype is torch.float32 else 1e-6)


def off(got: Tensor, exact: Tensor) -> float:
    """Return the largest deviation, relative to the larger of 1 and what is exact."""
    found = (got.double() - exact).abs() / exact.abs().clamp(min=1)
    return float(found[exact.isfinite()].max())


@gpu
@needs_gpu
def test_a_graph_captured_first_is_right() -> None:
    triton_probe._KNOWN.clear()
    made, x = fused(conv().cuda(), "add", SILU), X.cuda()
    conv().cuda()(x)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = made(x, x)
    graph.replay()
    assert triton_probe._KNOWN == {}
    assert error(got, nn.functional.silu(conv().cuda()(x) + x)) < 1e-5
