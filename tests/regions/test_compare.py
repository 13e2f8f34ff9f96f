"""What is said about values that are not what they were."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bnfuse.regions.compare import EXACT, OWN_ERRORS, ZERO, difference
from bnfuse.regions.rounding import Rounding
from tests.support import noise

ONE = noise(2, 3, 4)


def changed(index: Any, by: float, of: torch.Tensor = ONE) -> torch.Tensor:
    tensor = of.clone()
    tensor[index] += by
    return tensor


def test_equal_values_differ_by_nothing() -> None:
    assert difference([ONE, (ONE, 3, [None])], [ONE.clone(), (ONE, 3, [None])]) == (0.0, "")


NAN, INF = float("nan"), float("inf")
COMPLAINTS: dict[str, tuple[Any, Any, str]] = {
    "shape": (ONE, ONE[:1], "shape (1, 3, 4) instead of (2, 3, 4)"),
    "shape that broadcasts": (ONE[:, :1], ONE, "shape (2, 3, 4) instead of (2, 1, 4)"),
    "shape of nothing": (ONE[:0], ONE[:0, :1], "shape (0, 1, 4) instead of (0, 3, 4)"),
    "fewer values": ((ONE, ONE), (ONE,), "it returns another number of values"),
    "tensor for number": (3, ONE[0, 0, 0], f"{ONE[0, 0, 0]!r} instead of 3"),
    "another number": (3, 4, "4 instead of 3"),
    "another type": (1, True, "True instead of 1"),
    "not a number": (ONE, changed((0, 1, 2), NAN), "not finite where it was"),
    "infinite": (ONE, changed((0, 1, 2), INF), "not finite where it was"),
    "one element": (
        torch.ones(2, 3, 4),
        changed((1, 2, 3), 0.5, torch.ones(2, 3, 4)),
        "relative error 5.0e-01 on channel 2 of 3",
    ),
    "the last value": ((ONE, torch.ones(3)), (ONE, torch.zeros(3)), "relative error 1.0e+00 on"),
    "something instead of zeros": (
        torch.zeros(2, 3),
        changed((0, 1), 1e-30, torch.zeros(2, 3)),
        "relative error 1.0e-30 on channel 1 of 3",
    ),
    "imaginary part": (torch.ones(2, 3) + 1j, torch.ones(2, 3) + 2j, "relative error 1.0e+00 on"),
    "real instead of complex": (torch.ones(2, 3) + 1j, torch.ones(2, 3), "relative error 1.0e+00"),
    "whole numbers": (torch.arange(6), torch.arange(1, 7), "relative error"),
    "truth values": (torch.tensor([True, False]), torch.tensor([True, True]), "relative error"),
}


@pytest.mark.parametrize("case", COMPLAINTS.values(), ids=list(COMPLAINTS))
def test_each_complaint(case: tuple[Any, Any, str]) -> None:
    before, after, wanted = case
    _, complaint = difference([before], [after])
    assert complaint.startswith(wanted)
    assert difference([before], [before])[1] == ""


def test_the_first_complaint_and_the_largest_error_are_kept() -> None:
    wrong = [torch.ones(1) * 1.5, torch.ones(1) * 3]
    error, complaint = difference([torch.ones(1)] * 2, wrong)
    assert error == 2.0
    assert complaint == "relative error 5.0e-01 on channel 0 of 1"


def test_a_small_channel_does_not_hide_behind_a_huge_one() -> None:
    before = torch.ones(2, 3, 4, dtype=torch.float64)
    before[:, 1] *= 1e30
    after = before.clone()
    after[:, 2] += 1e-3
    error, complaint = difference([before], [after])
    assert complaint == "relative error 1.0e-03 on channel 2 of 3"
    assert error == pytest.approx(1e-33)


@pytest.mark.parametrize(("share", "is_wrong"), [(0.5, False), (2.0, True)])
def test_a_channel_of_zeros_is_held_to_the_largest(share: float, is_wrong: bool) -> None:
    """The zeros of a rectifier become the difference of two equal terms."""
    before = torch.ones(2, 3, 4, dtype=torch.float64)
    before[:, 1] = 0.0
    after = before.clone()
    after[:, 1] -= share * ZERO
    assert bool(difference([before], [after])[1]) is is_wrong


@pytest.mark.parametrize(("share", "is_wrong"), [(0.5, False), (2.0, True)])
def test_the_tolerance_is_relative_to_the_channel(share: float, is_wrong: bool) -> None:
    before = torch.full((1, 2, 3), 100.0, dtype=torch.float64)
    error, complaint = difference([before], [changed((0, 0, 0), share * 100 * EXACT, before)])
    assert error == pytest.approx(share * EXACT, rel=1e-3)
    assert bool(complaint) == is_wrong


def test_vectors_are_compared_element_by_element() -> None:
    before = torch.tensor([1e20, 1.0])
    assert difference([before], [torch.tensor([1e20, 1.1])])[1].endswith("on channel 1 of 2")


@pytest.mark.parametrize(("times", "is_wrong"), [(0.9, False), (1.1, True)])
def test_nearby_values_widen_the_tolerance_of_their_channel(times: float, is_wrong: bool) -> None:
    nearby = changed((0, 1, 0), 1e-5)
    by = times * OWN_ERRORS * 1e-5
    same = ONE.clone()
    rounding = Rounding(((same,), (nearby,)))
    assert bool(difference([ONE], [changed((1, 1, 3), by)], rounding)[1]) == is_wrong
    assert difference([ONE], [changed((1, 0, 3), by)], rounding)[1]


def test_nearby_values_that_are_not_finite_allow_nothing() -> None:
    for value in (NAN, INF):
        near = changed((0, 1, 0), value)
        assert difference([ONE], [changed((0, 1, 0), 1.0)], Rounding(((near,),)))[1]


@pytest.mark.parametrize(("share", "is_wrong"), [(0.5, False), (2.0, True)])
def test_zeros_throughout_are_held_to_what_was_computed_on_the_way(
    share: float, is_wrong: bool
) -> None:
    before = torch.zeros(2, 3, dtype=torch.float64)
    after = changed((0, 1), share * 5.0 * ZERO, before)
    assert bool(difference([before], [after], Rounding(inner=5.0))[1]) is is_wrong
    assert difference([before], [after])[1]


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_where_a_value_was_not_finite_anything_goes(value: float) -> None:
    before = changed((0, 1, 2), value)
    assert difference([before], [ONE]) == (0.0, "")
    assert difference([before], [before]) == (0.0, "")
    assert difference([before], [changed((0, 1, 1), 1.0)])[1].endswith("on channel 1 of 3")


def test_nothing_is_equal_to_nothing() -> None:
    assert difference([], []) == (0.0, "")
    assert difference([torch.empty(0, 3)], [torch.empty(0, 3)]) == (0.0, "")
