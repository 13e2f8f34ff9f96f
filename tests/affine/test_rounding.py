"""Rounding at the borders of the algebra."""

from __future__ import annotations

import pytest
import torch

import bnfuse
from bnfuse.affine import (
    all_finite,
    as_float64,
    as_parameter,
    forget,
    is_rounded,
    round_once,
    round_weight,
)
from tests.support import noise


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_every_stored_dtype_survives_the_way_there_and_back(dtype: torch.dtype) -> None:
    stored = noise(64).to(dtype)
    rounded = round_once(as_float64(stored), stored)
    assert rounded is not None
    assert rounded.dtype is dtype
    assert torch.equal(rounded, stored)


def test_float64_is_detached() -> None:
    parameter = torch.nn.Parameter(torch.ones(2))
    assert not as_float64(parameter).requires_grad


@pytest.mark.parametrize(
    ("value", "dtype"), [(7e4, torch.float16), (1e39, torch.float32), (-1e39, torch.bfloat16)]
)
def test_a_value_that_does_not_fit_is_noticed(value: float, dtype: torch.dtype) -> None:
    exact = torch.tensor([1.0, value], dtype=torch.float64)
    assert round_once(exact, torch.zeros(2, dtype=dtype)) is None


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_a_weight_fits_as_long_as_it_is_as_precise_as_normal_numbers(dtype: torch.dtype) -> None:
    like, smallest = torch.zeros(64, dtype=dtype), torch.finfo(dtype).tiny
    for scale, fits in ((1.0, True), (8 * smallest, True), (smallest / 64, False), (0.0, True)):
        assert (round_weight(noise(64) * scale, like) is not None) == fits
    mixed = noise(64) * smallest / 64
    mixed[0] = 1.0  # beside which the others do not count
    assert round_weight(mixed, like) is not None
    assert round_weight(mixed * 1e39, like) is None


def test_a_tensor_knows_whether_it_was_rounded() -> None:
    made = round_once(noise(3), torch.zeros(3).half())
    assert made is not None
    assert is_rounded(as_parameter(made))
    forget(made)
    assert not is_rounded(made)


def test_channels_last_weights_stay_channels_last() -> None:
    """The memory format decides which kernel a convolution runs."""
    like = torch.empty(4, 3, 2, 2).to(memory_format=torch.channels_last)
    rounded = round_once(noise(4, 3, 2, 2), like)
    assert rounded is not None
    assert rounded.stride() == like.stride()
    assert torch.equal(rounded, noise(4, 3, 2, 2).float())


def test_a_rounded_tensor_stands_for_what_it_was_until_that_is_forgotten() -> None:
    exact = noise(8)
    rounded = round_once(exact, torch.zeros(8).half())
    assert rounded is not None
    parameter = as_parameter(rounded)
    assert not parameter.requires_grad
    assert torch.equal(as_float64(rounded), exact)
    assert torch.equal(as_float64(parameter), exact)
    forget(parameter)
    forget(parameter)  # twice is no harm
    assert torch.equal(as_float64(parameter), rounded.detach().double())
    assert not torch.equal(as_float64(parameter), exact)


def test_an_optimized_model_stands_for_what_is_stored_in_it() -> None:
    """Its weights may be written, or loaded, so that a memory would be of something else."""
    model = torch.nn.Sequential(torch.nn.Conv2d(2, 3, 1), torch.nn.BatchNorm2d(3)).eval()
    fused = bnfuse.optimize(model)
    for tensor in [*fused.parameters(), *fused.buffers()]:
        assert torch.equal(as_float64(tensor), tensor.detach().double())
        assert vars(tensor) == {}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_finite_numbers_are_finite_even_where_their_sum_is_not(dtype: torch.dtype) -> None:
    large = torch.full((3, 4), torch.finfo(dtype).max, dtype=dtype)
    assert not large.sum().isfinite()
    assert all_finite(large)
    for odd in (float("inf"), -float("inf"), float("nan")):
        one = torch.ones(3, 4, dtype=dtype)
        one[1, 2] = odd
        assert not all_finite(one)
    both = torch.tensor([float("inf"), -float("inf")], dtype=dtype)
    assert not all_finite(both)
    assert all_finite(torch.zeros(0, dtype=dtype))


@pytest.mark.parametrize("odd", [float("inf"), -float("inf"), float("nan"), 1e39])
def test_a_weight_that_is_not_finite_does_not_fit(odd: float) -> None:
    exact = torch.ones(3, 4, dtype=torch.float64)
    exact[2, 1] = odd
    assert round_weight(exact, torch.zeros(3, 4)) is None
    like = torch.zeros(3, 4, dtype=torch.float64)
    assert (round_weight(exact, like) is None) == (odd != 1e39)
