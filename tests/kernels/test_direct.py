"""The kernel that calls oneDNN itself: compared first, and careful with what it is given."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.kernels import Activation, direct, post_operations, preparing
from bnfuse.kernels.direct import Direct
from bnfuse.kernels.prepared import Prepared
from tests.kernels.support import Case, drawn, error, fused, kernels_of, needs_library

pytestmark = needs_library
RELU = Activation("relu")


def runs_directly(made: Any) -> bool:
    return all(isinstance(kernel, Direct) for kernel in kernels_of(made).values())


def test_a_wrong_kernel_is_not_used(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    tanh = Activation("tanh")
    monkeypatch.setitem(post_operations._KNOWN, "relu", post_operations.algorithm(tanh))
    made = fused(case.conv(), "", RELU)
    with pytest.warns(UserWarning, match=r"is off by .* for \(1, 8, .*0\): PyTorch's kernel"):
        result = made(case.x)
    assert error(result, case.conv()(case.x).relu()) < 1e-6
    assert not runs_directly(made)


@pytest.mark.parametrize("nothing", ["unwritten", "not-a-number"])
def test_a_kernel_that_leaves_out_elements_is_not_used(
    case: Case, monkeypatch: pytest.MonkeyPatch, nothing: str
) -> None:
    real = Prepared.__call__

    def call(self: Prepared, source: int, result: int, *places: int | None) -> None:
        if nothing == "unwritten":
            return
        nan = torch.full_like(case.x, torch.nan)
        real(self, nan.data_ptr(), result, *places)

    monkeypatch.setattr(Prepared, "__call__", call)
    made = fused(case.conv())
    with pytest.warns(UserWarning, match="is off by inf"):
        made(case.x)
    assert not runs_directly(made)


def test_a_bias_in_the_place_of_another(case: Case) -> None:
    layer = fused(case.conv(), "add", RELU)
    layer(case.x, case.other)
    layer.bias.mul_(-3)
    assert error(layer(case.x, case.other), (layer.alone(case.x) + case.other).relu()) < 1e-6
    layer._parameters["bias"] = nn.Parameter(drawn(8, seed=5), requires_grad=False)
    assert error(layer(case.x, case.other), (layer.alone(case.x) + case.other).relu()) < 1e-6
    assert runs_directly(layer)


@pytest.mark.parametrize(
    "bias", [None, drawn(8, 2)[:, 0], torch.complex(drawn(8), drawn(8)).conj().imag]
)
def test_an_odd_bias_in_its_place(case: Case, bias: torch.Tensor | None) -> None:
    layer = fused(case.conv(), "", RELU)
    layer(case.x)
    layer._parameters["bias"] = bias
    assert error(layer(case.x), layer.alone(case.x).relu()) < 1e-6


def test_a_bias_of_another_length_is_an_error(case: Case) -> None:
    layer = fused(case.conv(), "", RELU)
    layer(case.x)
    layer._parameters["bias"] = nn.Parameter(drawn(4), requires_grad=False)
    with pytest.raises(RuntimeError, match="bias"):
        layer(case.x)


def test_a_bias_that_comes_later(case: Case) -> None:
    layer = fused(case.conv(bias=False), "", RELU)
    layer(case.x)
    layer._parameters["bias"] = nn.Parameter(drawn(8), requires_grad=False)
    assert error(layer(case.x), layer.alone(case.x).relu()) < 1e-6


def test_another_number_of_threads(case: Case) -> None:
    layer, before = fused(case.conv(), "", RELU), torch.get_num_threads()
    layer(case.x)
    try:
        torch.set_num_threads(before + 1)
        assert error(layer(case.x), case.conv()(case.x).relu()) < 1e-6
        (kernel,) = kernels_of(layer).values()
        assert kernel._for_threads(before + 1)._prepared.threads == before + 1
    finally:
        torch.set_num_threads(before)


def test_another_number_of_threads_with_slow_kernels_only(
    case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    layer, before = fused(case.conv(), "", RELU), torch.get_num_threads()
    layer(case.x)
    monkeypatch.setattr(preparing, "_SLOW_ON_IMAGES", {kernel_name(layer)})
    try:
        torch.set_num_threads(before + 1)
        assert error(layer(case.x), case.conv()(case.x).relu()) < 1e-6
    finally:
        torch.set_num_threads(before)


def kernel_name(made: Any) -> str:
    (kernel,) = kernels_of(made).values()
    return str(kernel.kernel).partition(":")[0]


@pytest.mark.parametrize("number", [torch.nan, torch.inf])
def test_weights_that_are_not_finite_cannot_be_compared(case: Case, number: float) -> None:
    plain = case.conv()
    plain.weight[0, 0] = number
    layer = fused(plain, "", RELU)
    torch.testing.assert_close(layer(case.x)[:, 1:], plain(case.x).relu()[:, 1:])
    assert not runs_directly(layer)


@pytest.mark.parametrize("name", ["tanh", "relu6", "sigmoid"])
def test_large_weights_are_no_difference(case: Case, name: str) -> None:
    plain = case.conv()
    plain.weight.mul_(1e6)
    layer = fused(plain, "", Activation(name))
    layer(case.x)
    assert runs_directly(layer)


def test_large_results_are_left_to_pytorch(case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(direct, "_MOST_ELEMENTS", 3199)
    layer = fused(case.conv(), "", RELU)
    assert error(layer(case.x), case.conv()(case.x).relu()) < 1e-6
    assert not runs_directly(layer)


def test_operands_laid_out_otherwise(case: Case) -> None:
    layer = fused(case.conv(), "add", RELU)
    wanted = (case.conv()(case.x) + case.other).relu()
    strided = case.x.repeat_interleave(2, -1)[..., ::2]
    for x in (case.x, case.last(case.x), strided, case.x.flip(-1).flip(-1)):
        for other in (case.other, case.last(case.other)):
            result = layer(x, other)
            assert error(result, wanted) < 1e-6
            assert case.is_last(result)
    expanded = case.x[:, :, :1].expand_as(case.x)
    assert error(layer(expanded, expanded), (case.conv()(expanded) + expanded).relu()) < 1e-6
    assert runs_directly(layer)


def test_negated_views(case: Case) -> None:
    x = torch.complex(case.other, case.x).conj().imag
    assert x.is_neg()
    layer = fused(case.conv(), "", RELU)
    assert error(layer(x), case.conv()(x).relu()) < 1e-6


def test_negated_values_inside_a_graph(case: Case) -> None:
    class Negates(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.conv, self.last = case.conv(), case.conv()

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            y = torch.complex(x, x)
            result: torch.Tensor = self.last(self.conv(x) + y.conj().imag).relu()
            return self.last(y.conj().imag) + result

    model = Negates().eval()
    optimized = bnfuse.optimize(model)
    with torch.no_grad():
        for _ in range(3):  # by its layers, then by a plan
            assert error(optimized(case.x), model(case.x)) < 1e-6


@pytest.mark.parametrize("index", [(..., slice(1)), (0,), (slice(1), slice(1)), (0, 0, 0)])
def test_second_operands_of_other_shapes(case: Case, index: Any) -> None:
    layer, other = fused(case.conv(), "add", RELU), case.other[index]
    assert error(layer(case.x, other), (case.conv()(case.x) + other).relu()) < 1e-6


def test_it_lives_without_a_mode_of_functions(case: Case) -> None:
    layer = fused(case.conv(), "", RELU)
    with torch.device("meta"):  # where factories make their tensors
        result = layer(case.x)
    assert result.is_cpu
    assert error(result, case.conv()(case.x).relu()) < 1e-6


def test_random_numbers_differ_between_channels() -> None:
    found = direct._numbers((1, 8, 100, 100), torch.float32)[0]
    assert len({tuple(channel.flatten().tolist()) for channel in found}) == 8
