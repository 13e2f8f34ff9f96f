"""What cuDNN is asked for: where, and what is computed; without a GPU stand-ins compute it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, nn

from bnfuse.kernels import Activation, cuda_runners, cudnn_calls
from bnfuse.kernels.packed import Packed
from tests.kernels.support import ACTIVATIONS, conv, conv1d, drawn, error, fused, kernels_of, layer
from tests.kernels.test_cudnn_calls import add_relu, relu

if TYPE_CHECKING:
    from bnfuse.kernels.packed import Kernel

RELU = Activation("relu")
X, OTHER = drawn(2, 8, 12, 11), drawn(2, 8, 12, 11, seed=1)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)
LAYOUTS = (torch.contiguous_format, torch.channels_last)


@pytest.fixture(autouse=True)
def found(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Put stand-ins where the GPU would be."""
    if request.node.get_closest_marker("gpu"):
        return
    works = cudnn_calls.Cudnn(frozenset(DTYPES), "")
    monkeypatch.setattr(cudnn_calls, "cudnn", lambda _: works)
    monkeypatch.setattr(cudnn_calls, "relu", relu)
    monkeypatch.setattr(cudnn_calls, "add_relu", add_relu)


def chosen(made: Any, x: Tensor = X) -> Kernel | None:
    """Return the kernel that a fused convolution takes for an input."""
    packed = Packed(made.weight, 0, 0)
    return cuda_runners.convolution(packed, x, made.bias, made._geometry(), made.epilogue)


@pytest.mark.parametrize("options", [{}, {"stride": 2, "padding": 0}, {"bias": False}], ids=str)
@pytest.mark.parametrize("binary", ["", "add", "iadd"])
def test_numbers(binary: str, options: dict[str, Any]) -> None:
    plain = conv(**options)
    made = fused(plain, binary, RELU)
    y = plain(X)
    others = (drawn(*y.shape, seed=1),) if binary else ()
    kernel = chosen(made)
    assert kernel is not None
    assert error(kernel(X, made.bias, *others), made.epilogue.plain(y, others)) < 1e-6


def test_second_value_of_another_shape_or_dtype() -> None:
    plain = conv()
    kernel = chosen(fused(plain, "add", RELU))
    assert kernel is not None
    for other in (drawn(1, 8, 1, 1), drawn(2, 8, 12, 11, dtype=torch.float64)):
        assert error(kernel(X, plain.bias, other), (plain(X) + other).relu()) < 1e-6


@pytest.mark.parametrize("activation", [a for a in (None, *ACTIVATIONS) if a != RELU], ids=str)
def test_other_activations_are_left(activation: Activation | None) -> None:
    assert chosen(fused(conv(), "", activation)) is None


@pytest.mark.parametrize(
    "made",
    [
        fused(conv(groups=8), "", RELU),
        fused(conv(), "mul", RELU),
        fused(layer(nn.Conv3d, 8, 8, 1), "", RELU),
        fused(conv1d(), "", RELU),
    ],
    ids=["groups", "product", "volume", "signal"],
)
def test_other_convolutions_are_left(made: Any) -> None:
    if made.weight.ndim == 3:
        assert chosen(made, drawn(2, 8, 50)) is None
    assert chosen(made, drawn(2, 8, 5, 4, 3)[:, :, 0] if made.weight.ndim == 4 else X) is None
    if made.weight.ndim == 5:
        assert chosen(made, drawn(1, 8, 3, 4, 5)) is None


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_layouts_and_groups_in_which_they_are_faster(dtype: torch.dtype) -> None:
    is_half = dtype is not torch.float32
    made, wide = fused(conv(), "", RELU).to(dtype), fused(conv(), "", RELU).to(dtype)
    wide = wide.to(memory_format=torch.channels_last)
    x, turned = X.to(dtype), X.to(dtype).contiguous(memory_format=torch.channels_last)
    assert (chosen(made, x) is None) == is_half
    assert None not in (chosen(made, turned), chosen(wide, x), chosen(wide, turned))
    for channels, is_taken in ((16, is_half), (8, False)):
        grouped = fused(layer(nn.Conv2d, channels, channels, 3, groups=2), "", RELU).to(dtype)
        x = drawn(2, channels, 9, 9, dtype=dtype).contiguous(memory_format=torch.channels_last)
        assert (chosen(grouped, x) is not None) == is_taken


def test_other_dtypes_are_left() -> None:
    made = fused(conv(), "", RELU).double()
    assert chosen(made, X.double()) is None


def test_larger_sizes_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_runners, "_MOST_ELEMENTS", X.numel() - 1)
    assert chosen(fused(conv(), "", RELU)) is None


def test_shapes_without_an_engine_are_left(monkeypatch: pytest.MonkeyPatch) -> None:
    def has_none(*_: object) -> Tensor:
        raise RuntimeError("Unable to find an engine")

    monkeypatch.setattr(cudnn_calls, "relu", has_none)
    assert chosen(fused(conv(), "", RELU)) is None
    assert chosen(fused(conv(), "add", RELU)) is not None


def test_memory_that_is_full_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(cudnn_calls, "relu", is_full)
    with pytest.raises(torch.OutOfMemoryError):
        chosen(fused(conv(), "", RELU))


gpu = pytest.mark.gpu
needs_gpu = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")


@gpu
@needs_gpu
@pytest.mark.parametrize("layout", LAYOUTS, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("activation", [None, *ACTIVATIONS], ids=str)
@pytest.mark.parametrize("binary", ["", "add", "iadd", "mul"])
def test_on_a_gpu(
    binary: str, activation: Activation | None, dtype: torch.dtype, layout: torch.memory_format
) -> None:
    plain = layer(nn.Conv2d, 16, 16, 3, padding=1).to("cuda", dtype, memory_format=layout)
    made = fused(plain, binary, activation)
    x = drawn(2, 16, 12, 11).to("cuda", dtype, memory_format=layout)
    others = (drawn(2, 16, 12, 11, seed=1).to("cuda", dtype),) if binary else ()
    exact = made.epilogue.plain(plain.double()(x.double()), tuple(o.double() for o in others))
    plain.to(dtype)
    got = made(x, *others)
    bound = 4e-3 if dtype is torch.float32 else 8 * torch.finfo(dtype).eps  # TF32
    assert error(got.double(), exact) < bound
    assert got.is_contiguous(memory_format=layout)
    (kernel,) = kernels_of(made).values()
    assert kernel is not None


@gpu
@needs_gpu
def test_in_a_cuda_graph() -> None:
    made = fused(conv().cuda(), "add", RELU)
    x, other = X.cuda(), OTHER.cuda()
    wanted = made(x, other).clone()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        got = made(x, other)
    got.zero_()
    graph.replay()
    assert torch.equal(got, wanted)


@gpu
@needs_gpu
def test_deterministic_algorithms_are_left_to_pytorch() -> None:
    made = fused(conv().cuda(), "", RELU)
    torch.use_deterministic_algorithms(True)
    try:
        made(X.cuda())
    finally:
        torch.use_deterministic_algorithms(False)
    assert kernels_of(made) == {}


@gpu
@needs_gpu
def test_autocast_on_a_gpu_gives_its_dtype() -> None:
    made = fused(conv().cuda(), "", RELU)
    with torch.autocast("cuda", dtype=torch.bfloat16):
        assert made(X.cuda()).dtype is torch.bfloat16
    assert kernels_of(made) == {}
