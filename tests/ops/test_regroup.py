"""Which axes a reshape merges and splits: against brute force."""

from __future__ import annotations

from math import prod
from typing import Any

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from bnfuse.affine import regroup
from bnfuse.ops.regroup import Group, groups_of, regrouped

SIZES = st.lists(st.sampled_from([1, 2, 3, 4]), min_size=1, max_size=5).map(tuple)


@st.composite
def reshapes(draw: st.DrawFn) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Draw a shape and another one with as many elements."""
    given = draw(SIZES)
    rest = prod(given)
    target: list[int] = []
    while rest > 1 and len(target) < 4:
        size = draw(st.sampled_from([d for d in range(1, rest + 1) if rest % d == 0]))
        target.append(size)
        rest //= size
    return given, (*target, rest)


def check(groups: list[Group], given: tuple[int, ...], target: tuple[int, ...]) -> None:
    assert [axis for group in groups for axis in group.before] == list(range(len(given)))
    assert [axis for group in groups for axis in group.after] == list(range(len(target)))
    for group in groups:
        assert prod(given[a] for a in group.before) == prod(target[a] for a in group.after)


@settings(max_examples=150, deadline=None)
@given(reshapes(), st.data())
def test_groups_of_numbers(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    before, after = shapes
    groups = groups_of(before, after)
    assert groups is not None
    check(groups, before, after)
    place = data.draw(st.integers(0, len(after) - 1))
    with_rest = (*after[:place], -1, *after[place + 1 :])
    assert regrouped(before, with_rest) == after
    rest = groups_of(before, with_rest)
    assert rest is not None
    check(rest, before, after)


@settings(max_examples=150, deadline=None)
@given(reshapes(), st.data())
def test_coefficients_move_as_the_elements_do(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    before, after = shapes
    kept = [size if data.draw(st.booleans()) else 1 for size in before]
    coefficients = torch.randn(kept, dtype=torch.float64)
    groups = groups_of(before, after)
    assume(groups is not None)
    sides = [(group.before, group.after) for group in groups or []]
    moved = regroup(coefficients, sides, before, after)
    assert moved is not None
    wanted = coefficients.expand(before).reshape(after)
    assert torch.equal(moved.expand(after), wanted)


@pytest.mark.parametrize(
    ("given_sizes", "target", "wanted"),
    [
        (("n", 8, "h", "w"), ("n", 2, 4, "h", "w"), ("n", 2, 4, "h", "w")),
        (("n", 8, "h", "w"), ("n", 8, -1), ("n", 8, -1)),
        (("n", 8, "h"), ("n", 4, -1, "h"), ("n", 4, 2, "h")),
        (("n", 8), ("n", 8, -1), ("n", 8, 1)),
        (("n", 8), (-1, 8), ("n", 8)),
        (("n", "h"), ("h", "n"), ("h", "n")),
        ((2, 3), (4, -1), None),
        ((0, 3), (0, -1), (0, 3)),
    ],
)
def test_unknown_sizes(
    given_sizes: tuple[object, ...],
    target: tuple[object, ...],
    wanted: tuple[object, ...] | None,
) -> None:
    assert regrouped(given_sizes, target) == wanted


@settings(max_examples=150, deadline=None)
@given(reshapes(), st.data())
def test_groups_hold_whatever_the_unknown_sizes_are(
    shapes: tuple[tuple[int, ...], tuple[int, ...]], data: st.DataObject
) -> None:
    before, after = shapes
    hidden = tuple(
        f"size {axis}" if data.draw(st.booleans()) else size for axis, size in enumerate(before)
    )
    groups = groups_of(hidden, after)
    assume(groups is not None)
    check(groups or [], before, after)


def test_axes_of_unknown_sizes_become_one_of_a_known_size() -> None:
    found = groups_of(("n", 8, "h", "w"), ("n", 8, 49))
    assert found == [Group((0,), (0,)), Group((1,), (1,)), Group((2, 3), (2,))]
    assert regrouped(("n", 8, "h", "w"), ("n", 8, 49)) == ("n", 8, 49)
    assert groups_of(("n", "h"), ("n",)) is None


def test_nothing_is_known_where_unknown_sizes_may_cross() -> None:
    assert groups_of(("n", "h"), ("h", "n")) is None
    assert groups_of(("n", 8, "h"), ("n", "k", -1)) is None
    assert groups_of((2, 3), (2, 2)) is None


@pytest.mark.parametrize(
    ("given", "target", "wanted"),
    [
        (("n", 4, "h"), (-1, 2, 2, "h"), [((0,), (0,)), ((1,), (1, 2)), ((2,), (3,))]),
        (("n", 2, 2), (-1, 4), [((0,), (0,)), ((1, 2), (1,))]),
        (("n", 4, 1), (-1, 4), [((0,), (0,)), ((1, 2), (1,))]),
        (("n", 6, 2, 4), (-1, 3, 8), [((0, 1), (0, 1)), ((2, 3), (2,))]),
        (("n", 6, 4), (-1, 8), [((0, 1, 2), (0, 1))]),
        (("n", "m", 4), (-1, 2, 2), [((0, 1), (0,)), ((2,), (1, 2))]),
    ],
)
def test_the_last_axes_close_groups_whatever_the_batch(
    given: tuple[Any, ...], target: tuple[Any, ...], wanted: list[Any]
) -> None:
    found = groups_of(given, target)
    assert found is not None
    assert [(group.before, group.after) for group in found] == wanted
