"""Rounding that lets the errors of a row cancel."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from bnfuse.affine.feedback import Moments, round_with_feedback
from tests.support import noise

HALVES = [torch.float16, torch.bfloat16]


def moments(rows: Tensor, groups: int = 1, cases: int = 1, spread: float = 0.5) -> Moments:
    """Return moments as behind a rectifier, for weights ``(out, ...)``."""
    count = rows[0].numel()
    mean = noise(groups, cases, count).abs()
    return Moments(mean, torch.full((groups, count), spread, dtype=torch.float64))


def mean_square(
    weight: Tensor, bias: Tensor | None, exact: tuple[Tensor, Tensor | None], m: Moments
) -> Tensor:
    """Return ``J`` of each row as the description of the module has it."""
    groups = m.mean.shape[0]
    error = (weight.double() - exact[0]).reshape(groups, -1, m.mean.shape[2])
    sums = torch.einsum("grn,gcn->grc", error, m.mean)
    if bias is not None and exact[1] is not None:
        sums = sums + (bias.double() - exact[1]).reshape(groups, -1, 1)
    return sums.square().mean(2) + torch.einsum("grn,gn->gr", error.square(), m.variance)


def ulp(exact: Tensor, dtype: torch.dtype) -> Tensor:
    """Return the distance between neighbours around a value that is a normal number."""
    return torch.finfo(dtype).eps * 2.0 ** exact.abs().log2().floor()


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("cases", [1, 5])
def test_it_is_never_worse_than_the_nearest_and_most_often_far_better(
    dtype: torch.dtype, groups: int, cases: int
) -> None:
    weight, bias = noise(16, 64, 3, 3), noise(16)
    m = moments(weight, groups, cases, spread=0.01)
    rounded, shift = round_with_feedback(weight, bias, m, dtype)
    assert shift is not None
    assert (rounded.dtype, shift.dtype) == (dtype, dtype)
    ours = mean_square(rounded, shift, (weight, bias), m)
    nearest = mean_square(weight.to(dtype), bias.to(dtype), (weight, bias), m)
    assert (ours <= nearest * (1 + 1e-6)).all()
    assert ours.mean() < nearest.mean() * (0.2 if cases == 1 else 0.6)


@pytest.mark.parametrize("dtype", HALVES)
def test_no_weight_is_further_than_its_other_neighbour(dtype: torch.dtype) -> None:
    weight = noise(32, 100)
    rounded, _ = round_with_feedback(weight, None, moments(weight, spread=0.0), dtype)
    error = (rounded.double() - weight).abs()
    assert (error < ulp(weight, dtype)).all()
    assert (error > ulp(weight, dtype) / 2).any()


@pytest.mark.parametrize("dtype", HALVES)
def test_inputs_without_a_mean_leave_the_nearest(dtype: torch.dtype) -> None:
    weight = noise(8, 30)
    m = Moments(torch.zeros(1, 1, 30).double(), torch.ones(1, 30).double())
    rounded, _ = round_with_feedback(weight, None, m, dtype)
    assert torch.equal(rounded, weight.to(dtype))


def test_a_number_of_the_dtype_stays_what_it_is() -> None:
    weight = noise(8, 30).half().double()
    weight[:, ::2] = noise(8, 15)
    rounded, _ = round_with_feedback(weight, None, moments(weight, spread=0.0), torch.float16)
    assert torch.equal(rounded[:, 1::2].double(), weight[:, 1::2])


def test_weights_make_up_for_the_bias() -> None:
    weight, bias = noise(16, 50) / 16, 1.5 + noise(16) / 8
    m = moments(weight, spread=0.0)
    rounded, shift = round_with_feedback(weight, bias, m, torch.float16)
    assert shift is not None
    means = (rounded.double() - weight) @ m.mean[0, 0] + shift.double() - bias
    assert (bias.half().double() - bias).abs().max() > 3e-4
    assert means.abs().max() < 2e-5


def test_nothing_is_rounded_to_infinity_that_the_nearest_is_not() -> None:
    weight = torch.full((4, 50), 65510.0, dtype=torch.float64)  # between 65504 and none
    rounded, _ = round_with_feedback(weight, None, moments(weight, spread=0.0), torch.float16)
    assert torch.equal(rounded, weight.half())
    assert torch.isfinite(rounded).all()


def test_smallest_numbers_become_neighbours_too() -> None:
    weight = noise(4, 50) * 1e-7
    rounded, _ = round_with_feedback(weight, None, moments(weight, spread=0.0), torch.float16)
    assert (rounded.double() - weight).abs().max() < 2.0**-24
    assert (rounded.double() * weight >= 0).all()


def test_it_is_the_same_every_time() -> None:
    weight, bias = noise(16, 64), noise(16)
    made = [round_with_feedback(weight, bias, moments(weight), torch.float16) for _ in range(2)]
    assert all(torch.equal(*pair) for pair in zip(*made, strict=True))


def test_moments_of_several_runs_are_cases_of_one() -> None:
    one, other = (Moments(noise(2, c, 3), noise(2, 3).square() + c) for c in (1, 3))
    both = one.joined(other)
    assert torch.equal(both.mean, torch.cat([one.mean, other.mean], 1))
    assert torch.allclose(both.variance, (one.variance + 3 * other.variance) / 4)


@pytest.mark.parametrize("odd", [torch.inf, torch.nan])
def test_moments_say_whether_they_are_finite(odd: float) -> None:
    plain = torch.ones(1, 1, 2).double(), torch.ones(1, 2).double()
    assert Moments(*plain).is_finite
    assert not Moments(plain[0] * odd, plain[1]).is_finite
    assert not Moments(plain[0], plain[1] * odd).is_finite
