"""The kernel that calls oneDNN itself: compared first, and careful with what it is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.kernels import Activation, direct, post_operations, preparing
from bnfuse.kernels.direct import Direct, strides_of
from bnfuse.kernels.prepared import Prepared
from tests.kernels.support import conv, drawn, error, fused, kernels_of, needs_library

pytestmark = needs_library
RELU = Activation("relu")
X, OTHER = drawn(1, 8, 20, 20), drawn(1, 8, 20, 20, seed=1)


def runs_directly(made: Any) -> bool:
    return all(isinstance(kernel, Direct) for kernel in kernels_of(made).values())


def test_a_wrong_kernel_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    tanh = Activation("tanh")
    monkeypatch.setitem(post_operations._KNOWN, "relu", post_operations.algorithm(tanh))
    made = fused(conv(), "", RELU)
    with pytest.warns(UserWarning, match=r"is off by .* for \(1, 8, 20, 20\): PyTorch's kernel"):
        result = made(X)
    assert error(result, conv()(X).relu()) < 1e-6
    assert not runs_directly(made)


@pytest.mark.parametrize("nothing", ["unwritten", "not-a-number"])
def test_a_kernel_that_leaves_out_elements_is_not_used(
    monkeypatch: pytest.MonkeyPatch, nothing: str
) -> None:
    real = Prepared.__call__

    def call(self: Prepared, source: int, result: int, *places: int | None) -> None:
        if nothing == "unwritten":
            return
        nan = torch.full((1, 8, 20, 20), torch.nan)
        real(self, nan.data_ptr(), result, *places)

    monkeypatch.setattr(Prepared, "__call__", call)
    made = fused(conv())
    with pytest.warns(UserWarning, match="is off by inf"):
        made(X)
    assert not runs_directly(made)


def test_a_bias_in_the_place_of_another() -> None:
    layer = fused(conv(), "add", RELU)
    layer(X, OTHER)
    layer.bias.mul_(-3)
    assert error(layer(X, OTHER), (layer.alone(X) + OTHER).relu()) < 1e-6
    layer._parameters["bias"] = nn.Parameter(drawn(8, seed=5), requires_grad=False)
    assert error(layer(X, OTHER), (layer.alone(X) + OTHER).relu()) < 1e-6
    assert runs_directly(layer)


@pytest.mark.parametrize(
    "bias", [None, drawn(8, 2)[:, 0], torch.complex(drawn(8), drawn(8)).conj().imag]
)
def test_an_odd_bias_in_its_place(bias: torch.Tensor | None) -> None:
    layer = fused(conv(), "", RELU)
    layer(X)
    layer._parameters["bias"] = bias
    assert error(layer(X), layer.alone(X).relu()) < 1e-6


def test_a_bias_of_another_length_is_an_error() -> None:
    layer = fused(conv(), "", RELU)
    layer(X)
    layer._parameters["bias"] = nn.Parameter(drawn(4), requires_grad=False)
    with pytest.raises(RuntimeError, match="bias"):
        layer(X)


def test_a_bias_that_comes_later() -> None:
    layer = fused(conv(bias=False), "", RELU)
    layer(X)
    layer._parameters["bias"] = nn.Parameter(drawn(8), requires_grad=False)
    assert error(layer(X), layer.alone(X).relu()) < 1e-6


def test_another_number_of_threads() -> None:
    layer, before = fused(conv(), "", RELU), torch.get_num_threads()
    layer(X)
    try:
        torch.set_num_threads(before + 1)
        assert error(layer(X), conv()(X).relu()) < 1e-6
        (kernel,) = kernels_of(layer).values()
        assert kernel._for_threads(before + 1)._prepared.threads == before + 1
    finally:
        torch.set_num_threads(before)


def test_another_number_of_threads_with_slow_kernels_only(monkeypatch: pytest.MonkeyPatch) -> None:
    layer, before = fused(conv(), "", RELU), torch.get_num_threads()
    layer(X)
    monkeypatch.setattr(preparing, "_SLOW_ON_IMAGES", {kernel_name(layer)})
    try:
        torch.set_num_threads(before + 1)
        assert error(layer(X), conv()(X).relu()) < 1e-6
    finally:
        torch.set_num_threads(before)


def kernel_name(made: Any) -> str:
    (kernel,) = kernels_of(made).values()
    return str(kernel.kernel).partition(":")[0]


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_cannot_be_compared(number: float) -> None:
    plain = conv()
    plain.weight[0, 0] = number
    layer = fused(plain, "", RELU)
    torch.testing.assert_close(layer(X)[:, 1:], plain(X).relu()[:, 1:])
    assert not runs_directly(layer)


@pytest.mark.parametrize("name", ["tanh", "relu6", "sigmoid"])
def test_large_weights_are_no_difference(name: str) -> None:
    plain = conv()
    plain.weight.mul_(1e6)
    layer = fused(plain, "", Activation(name))
    layer(X)
    assert runs_directly(layer)


def test_large_results_are_left_to_pytorch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_MOST_ELEMENTS", 3199)
    layer = fused(conv(), "", RELU)
    assert error(layer(X), conv()(X).relu()) < 1e-6
    assert not runs_directly(layer)


def test_operands_laid_out_otherwise() -> None:
    layer = fused(conv(), "add", RELU)
    wanted = (conv()(X) + OTHER).relu()
    last = torch.channels_last
    for x in (X, X.to(memory_format=last), drawn(1, 8, 20, 40)[..., ::2].copy_(X)):
        for other in (OTHER, OTHER.to(memory_format=last)):
            result = layer(x, other)
            assert error(result, wanted) < 1e-6
            assert result.is_contiguous(memory_format=last)
    assert runs_directly(layer)


def test_negated_views() -> None:
    x = torch.complex(OTHER, X).conj().imag
    assert x.is_neg()
    layer = fused(conv(), "", RELU)
    assert error(layer(x), conv()(x).relu()) < 1e-6


def test_negated_values_inside_a_graph() -> None:
    class Negates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = conv(), conv()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.complex(x, x)
            result: torch.Tensor = self.last(self.conv(x) + y.conj().imag).relu()
            return self.last(y.conj().imag) + result

    model = Negates().eval()
    optimized = bnfuse.optimize(model)
    with torch.no_grad():
        for _ in range(3):  # by its layers, then by a plan
            assert error(optimized(X), model(X)) < 1e-6


@pytest.mark.parametrize("shape", [(1, 8, 1, 1), (8, 20, 20)])
def test_second_operands_of_other_shapes(shape: tuple[int, ...]) -> None:
    layer, other = fused(conv(), "add", RELU), drawn(*shape)
    assert error(layer(X, other), (conv()(X) + other).relu()) < 1e-6


def test_it_lives_without_a_mode_of_functions() -> None:
    layer = fused(conv(), "", RELU)
    with torch.device("meta"):  # where factories make their tensors
        result = layer(X)
    assert result.is_cpu
    assert error(result, conv()(X).relu()) < 1e-6


def test_random_numbers_differ_between_channels() -> None:
    found = direct._numbers((1, 8, 100, 100), torch.float32)[0]
    assert len({tuple(channel.flatten().tolist()) for channel in found}) == 8


def test_strides() -> None:
    empty = torch.empty(2, 3, 4, 5, 6, memory_format=torch.channels_last_3d)
    assert strides_of(empty.shape, torch.channels_last_3d) == empty.stride()
