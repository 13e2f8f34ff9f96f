"""A clamp behind an affine, against the same clamp with other bounds and the affine behind it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfuse.affine import Affine, Bounds, as_float64, through_clamp, with_shift
from tests.support import noise

if TYPE_CHECKING:
    from torch import Tensor

INF = float("inf")
LARGEST = torch.finfo(torch.float32).max
BOUNDS = [
    (0.0, INF),
    (-INF, 0.0),
    (0.0, 6.0),
    (-1.0, 1.0),
    (2.0, 3.0),
    (0.1, 0.7),
    (1.0, 1.0),
    (-INF, INF),
]


def bounds(low: float | None, high: float | None) -> Bounds:
    found = Bounds.of(low, high)
    assert found is not None
    return found


def applied(x: Tensor, clamp: Bounds, after: Affine) -> Tensor:
    """Return ``s (clamp(x) + shift) + t``."""
    clamped = x.clamp(clamp.low, clamp.high)
    shifted = clamped if clamp.shift is None else clamped + clamp.shift
    return after.scale * shifted + after.shift


@pytest.mark.parametrize(("low", "high"), BOUNDS, ids=str)
@pytest.mark.parametrize("adds", [False, True], ids="adds={}".format)
def test_scales_of_any_sign(low: float, high: float, adds: bool) -> None:
    scale = torch.tensor([2.0, -0.5, 0.0, 1.0, -1.0, 0.0, 3e-3, -1e-9], dtype=torch.float64)
    affine, x = Affine(scale, noise(8)), 5 * noise(500, 8, seed=2)
    after, moved = through_clamp(affine, bounds(low, high), LARGEST)
    if adds:
        after, moved = with_shift(after, moved)
        assert not after.has_shift
    wanted = (affine.scale * x + affine.shift).clamp(low, high)
    assert torch.allclose(applied(x, moved, after), wanted, rtol=1e-12, atol=1e-14)
    assert bool((moved.low <= moved.high).all())


@given(
    s=st.floats(-1e4, 1e4), t=st.floats(-1e4, 1e4), x=st.floats(-1e4, 1e4),
    ends=st.tuples(st.floats(-10, 10), st.floats(-10, 10)),
)  # fmt: skip
@settings(deadline=None, max_examples=200)
def test_any_numbers(s: float, t: float, x: float, ends: tuple[float, float]) -> None:
    affine = Affine.of(torch.tensor([s]).double(), t)
    value, clamp = torch.tensor([x]).double(), bounds(min(ends), max(ends))
    wanted = (affine.scale * value + affine.shift).clamp(clamp.low, clamp.high)
    after, moved = through_clamp(affine, clamp, torch.finfo(torch.float64).max)
    slack = 1e-12 * (1 + abs(t) + abs(s * x))
    assert torch.allclose(applied(value, moved, after), wanted, rtol=0.0, atol=slack)
    after, moved = with_shift(after, moved)
    assert torch.allclose(applied(value, moved, after), wanted, rtol=0.0, atol=slack)


@pytest.mark.parametrize("sign", [1.0, -1.0])
@pytest.mark.parametrize("shift", [-3.0, 3.0])
def test_bounds_that_no_value_reaches(sign: float, shift: float) -> None:
    """A tiny scale: the clamp lets all through, or nothing, whatever float32 value comes."""
    affine = Affine.of(torch.tensor([sign * 1e-44]).double(), shift)
    for clamp in (bounds(0.0, INF), bounds(-INF, 0.0), bounds(-1.0, 1.0)):
        after, moved = through_clamp(affine, clamp, LARGEST)
        finite = [bound for bound in (moved.low, moved.high) if bound.isfinite().all()]
        assert all(bound.abs() <= LARGEST for bound in finite)
        x = torch.tensor([-LARGEST, -1.0, 0.0, LARGEST], dtype=torch.float64)
        wanted = (affine.scale * x + affine.shift).clamp(clamp.low, clamp.high)
        assert torch.allclose(applied(x, moved, after), wanted, rtol=1e-5)


def test_infinite_values_of_a_channel_with_scale_zero() -> None:
    """They give nan before, 0 times infinity, and so they do afterwards."""
    affine = Affine.of(torch.zeros(1).double(), 2.0)
    after, moved = through_clamp(affine, bounds(0.0, None), LARGEST)
    x = torch.tensor([INF, float("nan"), 1.0], dtype=torch.float64)
    assert applied(x, moved, after).isnan().tolist() == [True, True, False]


@pytest.mark.parametrize(
    ("low", "high"), [(1.0, 0.0), (float("nan"), None), (None, float("nan"))], ids=str
)
def test_what_is_no_clamp(low: float | None, high: float | None) -> None:
    assert Bounds.of(low, high) is None


def test_rounding_leaves_out_what_does_nothing() -> None:
    low, none, zero = torch.tensor([1.0, -INF]).double(), torch.full((2,), INF), torch.zeros(1)
    found = Bounds(low, none).rounded(zero)
    assert found is not None
    assert found[0] is not None
    assert found[0].tolist() == [1.0, -INF]
    assert found[1:] == (None, None)
    assert torch.equal(as_float64(found[0]), low)
    nothing = Bounds(-none, none).rounded(zero)
    assert nothing is not None
    assert nothing[0] is not None  # a clamp of nothing still makes a tensor of its own
    both = Bounds(-none, torch.tensor([1.0, INF]).double(), zero).rounded(zero)
    assert both is not None
    assert [one is None for one in both] == [True, False, False]


@pytest.mark.parametrize(
    ("number", "dtype", "fits"),
    [
        (4000.0, torch.float16, True),
        (5000.0, torch.float16, False),
        (5000.0, torch.bfloat16, False),
        (1e300, torch.float32, False),
        (4000.0, torch.float64, True),
    ],
    ids=str,
)
def test_a_bound_that_does_not_fit(number: float, dtype: torch.dtype, fits: bool) -> None:
    made = torch.tensor([number, 0.0], dtype=torch.float64)
    none = torch.full((2,), INF, dtype=torch.float64)
    like = torch.zeros(1, dtype=dtype)
    assert (Bounds(made, none).rounded(like) is not None) is fits
    assert (Bounds(-none, -made).rounded(like) is not None) is fits
    assert (Bounds(-none, -made, made).rounded(like) is not None) is fits


def test_a_large_bound_that_is_not_reached() -> None:
    none, far = torch.full((2,), INF).double(), torch.tensor([1e6, 1.0]).double()
    assert Bounds(-far, none).rounded(torch.zeros(1)) is not None
    assert Bounds(-none, far).rounded(torch.zeros(1)) is not None
