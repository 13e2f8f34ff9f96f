"""Rounding at the borders of the algebra."""

from __future__ import annotations

import pytest
import torch

from bnfuse.affine import as_float64, round_once
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


def test_channels_last_weights_stay_channels_last() -> None:
    """The memory format decides which kernel a convolution runs."""
    like = torch.empty(4, 3, 2, 2).to(memory_format=torch.channels_last)
    rounded = round_once(noise(4, 3, 2, 2), like)
    assert rounded is not None
    assert rounded.stride() == like.stride()
    assert torch.equal(rounded, noise(4, 3, 2, 2).float())
