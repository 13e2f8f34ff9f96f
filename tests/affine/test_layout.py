"""Coefficients moved as the value is: against applying the affine and moving the value."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from bnfuse.affine import (
    Affine,
    joined,
    permuted,
    picked_at,
    pieces,
    put_back,
    regroup,
    selected,
    unpermuted,
)
from bnfuse.ops.regroup import groups_of
from tests.support import noise

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

SHAPE = (2, 6, 3, 4)


def affine_on(*axes: int) -> Affine:
    """Return an affine that differs along the given axes of a value of ``SHAPE``."""
    shape = [size if axis in axes else 1 for axis, size in enumerate(SHAPE)]
    return Affine(noise(*shape, seed=3), noise(*shape, seed=4))


def applied(affine: Affine, value: Tensor) -> Tensor:
    return affine.scale * value + affine.shift


@settings(max_examples=25, derandomize=True, deadline=None, database=None)
@given(st.permutations(range(4)), st.sets(st.integers(0, 3)))
def test_permutations(order: list[int], axes: set[int]) -> None:
    x, affine = noise(*SHAPE), affine_on(*axes)
    wanted = applied(affine, x).permute(order)
    assert torch.equal(applied(permuted(affine, order), x.permute(order)), wanted)
    back = unpermuted(permuted(affine, order), order)
    assert torch.equal(back.scale, affine.scale)
    assert torch.equal(back.shift, affine.shift)


@settings(max_examples=50, derandomize=True, deadline=None, database=None)
@given(
    st.sampled_from(
        [(2, 18, 4), (2, 72), (12, 12), (2, 2, 3, 3, 4), (2, 3, 6, 4), (2, 6, 12), (144,),
         (2, 1, 6, 3, 4), (2, 24, 3)]
    ),
    st.sets(st.integers(0, 3)),
)  # fmt: skip
def test_reshapes(target: tuple[int, ...], axes: set[int]) -> None:
    x, affine = noise(*SHAPE), affine_on(*axes)
    groups = groups_of(SHAPE, target)
    assert groups is not None
    sides = [(group.before, group.after) for group in groups]
    scale = regroup(affine.scale, sides, SHAPE, target)
    shift = regroup(affine.shift, sides, SHAPE, target)
    assert scale is not None
    assert shift is not None
    got = applied(Affine(scale, shift), x.reshape(target))
    assert torch.equal(got, applied(affine, x).reshape(target))


def regrouped(
    affine: Affine, given_sizes: Sequence[object], target: Sequence[object]
) -> Tensor | None:
    groups = groups_of(given_sizes, target)
    assert groups is not None
    return regroup(affine.scale, [(g.before, g.after) for g in groups], given_sizes, target)


def test_unknown_sizes_matter_only_where_the_coefficients_differ() -> None:
    spatial = regrouped(affine_on(1), ("n", 6, "h", "w"), ("n", 6, -1))
    assert spatial is not None
    assert spatial.shape == (1, 6, 1)
    assert regrouped(affine_on(1), ("n", 6, "h", "w"), ("n", -1)) is None
    assert regrouped(affine_on(1), ("n", 6, "h", "w"), (-1,)) is None


def test_blocks_in_one_order_and_turns_in_the_other() -> None:
    affine = Affine(torch.tensor([[[1.0]], [[2.0]]]), torch.zeros(2, 1, 1))
    blocks = regrouped(affine, (2, 1, 3), (6,))
    turns = regrouped(permuted(affine, (1, 2, 0)), (1, 3, 2), (6,))
    assert blocks is not None
    assert turns is not None
    assert blocks.tolist() == [1, 1, 1, 2, 2, 2]
    assert turns.tolist() == [1, 2, 1, 2, 1, 2]


def test_concatenation_and_pieces() -> None:
    x, affine = noise(*SHAPE), affine_on(1)
    sizes = [1, 3, 2]
    parts = pieces(affine, 1, sizes)
    for part, value, wanted in zip(
        parts, torch.split(x, sizes, 1), torch.split(applied(affine, x), sizes, 1), strict=True
    ):
        assert torch.equal(applied(part, value), wanted)
    whole = joined(parts, 1, sizes)
    assert torch.equal(whole.scale, affine.scale)
    assert pieces(affine, 2, [1, 2]) == [affine, affine]


def test_an_arm_without_coefficients_takes_those_that_change_nothing() -> None:
    none = Affine.of(torch.ones(1, 1, 1, 1), 0.0)
    whole = joined([none, affine_on(1), affine_on(2)], 1, [2, 6, 6])
    assert whole.scale.shape == (1, 14, 3, 1)
    assert bool((whole.scale[:, :2] == 1).all())
    assert not whole.shift[:, :2].any()


def test_one_of_an_axis() -> None:
    x, affine = noise(*SHAPE), affine_on(1, 3)
    assert torch.equal(
        applied(selected(affine, 1, 2), x.select(1, 2)), applied(affine, x).select(1, 2)
    )
    assert torch.equal(
        applied(selected(affine, 0, 1), x.select(0, 1)), applied(affine, x).select(0, 1)
    )


def test_places_go_back_to_where_they_were_picked() -> None:
    places = torch.tensor([2, 0, 2])
    affine = Affine.of(torch.tensor([[5.0, 3.0, 5.0]]), 0.0)
    before = put_back(affine, 1, places, 4)
    assert before is not None
    assert before.scale.tolist() == [[3.0, 1.0, 5.0, 1.0]]
    assert torch.equal(picked_at(before, 1, places).scale, affine.scale)
    assert put_back(Affine.of(torch.tensor([[5.0, 3.0, 4.0]]), 0.0), 1, places, 4) is None
