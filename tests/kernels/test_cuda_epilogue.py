"""Where one kernel ends a layer on a GPU, and what it computes; an interpreter stands for a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from bnfuse.kernels import Activation, FusedLayer, cuda_epilogue, triton_probe
from bnfuse.kernels.packed import Packed
from bnfuse.kernels.triton_launch import Compiled
from tests.kernels.interpreted import interpreter, stand_in
from tests.kernels.support import ACTIVATIONS, conv, drawn, error, fused, kernels_of, layer

if TYPE_CHECKING:
    from bnfuse.kernels.packed import Kernel

__all__ = ["interpreter", "stand_in"]
SILU, RELU = Activation("silu"), Activation("relu")
X, OTHER = drawn(2, 8, 12, 11), drawn(2, 8, 12, 11, seed=1)
LAST = torch.channels_last
LAYOUTS = (torch.contiguous_format, LAST)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")


@pytest.fixture(autouse=True)
def found(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU stand for a GPU, and Triton's own launches count as cheap."""
    if request.node.get_closest_marker("gpu") is None:
        request.getfixturevalue("stand_in")
        monkeypatch.setattr(Compiled, "directly", Compiled.by_triton)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return the list of all results that the kernel will have written over."""
    seen: list[Tensor] = []
    by_triton = Compiled.by_triton

    def noting(made: Compiled, sizes: Any) -> Any:
        launch = by_triton(made, sizes)

        def noted(tensors: tuple[Tensor, ...], pointers: tuple[int, ...]) -> None:
            seen.append(tensors[0])
            launch(tensors, pointers)

        return noted

    monkeypatch.setattr(triton_probe.Usable, "launch", lambda it, sizes: noting(it.compiled, sizes))
    return seen


def chosen(made: Any, x: Tensor = X) -> Kernel | None:
    """Return the kernel that a fused layer takes for an input."""
    kernel: Kernel | None = made.by_triton(Packed(made.weight, 0, 0), x)
    return kernel


def run(made: Any, *args: Tensor) -> Tensor:
    """Return what that kernel computes."""
    kernel = chosen(made, args[0])
    assert kernel is not None
    return kernel(args[0], made.bias, *args[1:])


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
        (layer(nn.ConvTranspose2d, 8, 4, 3, stride=2, output_padding=1), X),
        (layer(nn.Linear, 8, 6), drawn(3, 5, 8)),
    ],
    ids=["volume", "volume last", "transposed", "linear"],
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
        (fused(conv()), False),
        (fused(conv(bias=False), "", SILU), False),
        (fused(conv(bias=False), "add", SILU), True),
    ],
    ids=str,
)
def test_two_operators_at_least(made: Any, is_taken: bool) -> None:
    assert (chosen(made) is not None) == is_taken


def test_linear_layers_add_their_bias() -> None:
    x = drawn(3, 8)
    assert chosen(fused(layer(nn.Linear, 8, 6), "", SILU), x) is None
    assert chosen(fused(layer(nn.Linear, 8, 6), "add"), x) is None
    pixel = fused(layer(nn.Conv2d, 8, 6, 1), "add", SILU).half()
    assert chosen(pixel, drawn(2, 8, 1, 1).half()) is None
    assert chosen(pixel, drawn(2, 8, 1, 2).half()) is not None


def test_without_triton(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_probe, "find_spec", lambda _: None)
    assert chosen(fused(conv(), "", SILU)) is None


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
    assert torch.equal(got, nn.functional.silu(plain(X) + other))
    assert launches == []


@pytest.mark.parametrize(
    "bias",
    [drawn(16)[::2], drawn(9)[1:], drawn(1).expand(8)],
    ids=["strides", "unaligned", "expanded"],
)
def test_biases_that_are_left(bias: Tensor, launches: list[Tensor]) -> None:
    made = fused(conv(), "add", SILU)
    kernel = chosen(made)
    assert kernel is not None
    wanted = nn.functional.conv2d(X, made.weight, bias, padding=1)
    assert error(kernel(X, bias, OTHER), nn.functional.silu(wanted + OTHER)) < 1e-6
    assert launches == []


def test_a_bias_that_does_not_fit_is_told_by_pytorch() -> None:
    kernel = chosen(fused(conv(), "", SILU))
    assert kernel is not None
    for bias in (drawn(1), drawn(8, 1), drawn(9)):
        with pytest.raises(RuntimeError):
            kernel(X, bias)


def test_a_bias_that_is_gone(launches: list[Tensor]) -> None:
    made = fused(conv(), "add", SILU)
    kernel = chosen(made)
    assert kernel is not None
    wanted = nn.functional.conv2d(X, made.weight, None, padding=1) + OTHER
    for _ in range(2):
        assert error(kernel(X, None, OTHER), nn.functional.silu(wanted)) < 1e-6
        run_with_bias = kernel(X, made.bias, OTHER)
        assert error(run_with_bias, nn.functional.silu(conv()(X) + OTHER)) < 1e-6
    assert len(launches) == 4


def test_larger_sizes_are_left(monkeypatch: pytest.MonkeyPatch, launches: list[Tensor]) -> None:
    monkeypatch.setattr(cuda_epilogue, "_MOST_ELEMENTS", X.numel() - 1)
    run(fused(conv(), "", SILU), X)
    assert launches == []


def test_nothing_is_compiled_while_a_graph_is_captured(
    monkeypatch: pytest.MonkeyPatch, launches: list[Tensor]
) -> None:
    kernel = chosen(fused(conv(), "", SILU))
    assert kernel is not None
    bias, wanted = conv().bias, nn.functional.silu(conv()(X))
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert torch.equal(kernel(X, bias), wanted)
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
    monkeypatch.setattr(cuda_epilogue, "_LEAST_BYTES_BY_TRITON", X.nbytes + 1)
    kernel = chosen(fused(conv(), "", SILU))
    assert kernel is not None
    bias, wanted = conv().bias, nn.functional.silu(conv()(X))
    assert error(kernel(X, bias), wanted) < 1e-6
    assert launches == []
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert error(kernel(X, bias), wanted) < 1e-6
    assert len(launches) == 1


def test_kernels_that_are_wrong_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triton_probe, "usable", lambda _: None)
    assert torch.equal(run(fused(conv(), "", SILU), X), nn.functional.silu(conv()(X)))


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
    for shape in SHAPES:
        for binary in ("", "add", "mul"):
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
    got = cuda_epilogue.Ending(epilogue, y.get_device())(y.clone(), bias, others)
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
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as seen:
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
