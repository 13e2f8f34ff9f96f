"""Parallel and consecutive convolutions as one, against running each of them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.affine.branch import Branch, grid_of
from bnfuse.affine.merge import chained, merged_branches, regrouped_weight
from tests.support import noise, relative_error

GROUPS = st.sampled_from([1, 2, 3, 6])
AXIS = st.tuples(
    st.integers(1, 4), st.integers(0, 3), st.integers(1, 2)
)  # kernel, padding, dilation


def branch(
    axes: list[tuple[int, int, int]],
    groups: int = 1,
    stride: int = 1,
    seed: int = 0,
    outputs: int = 6,
) -> Branch:
    kernel, padding, dilation = zip(*axes, strict=True)
    weight = noise(outputs, 6 // groups, *kernel, seed=seed)
    bias = noise(outputs, seed=seed + 1)
    return Branch(weight, bias, (stride,) * len(axes), padding, dilation, groups)


def run(one: Branch, x: torch.Tensor) -> torch.Tensor:
    geometry = (one.stride, one.padding, one.dilation, one.groups)
    return (F.conv1d if x.ndim == 3 else F.conv2d)(x, one.weight, one.bias, *geometry)


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(AXIS, AXIS, st.integers(1, 3), st.tuples(GROUPS, GROUPS))
def test_aligned_branches_are_their_sum(
    one: tuple[int, int, int], other: tuple[int, int, int], stride: int, groups: tuple[int, int]
) -> None:
    """And those that are not give outputs of other sizes for some input."""
    branches = [branch([one], groups[0], stride), branch([other], groups[1], stride, seed=5)]
    inputs = [noise(1, 6, size, seed=size) for size in range(9, 12)]
    if grid_of(branches):
        merged = merged_branches(branches)
        for x in inputs:
            wanted = run(branches[0], x) + run(branches[1], x)
            assert relative_error(run(merged, x), wanted) < 1e-12
    else:
        sizes = [(run(branches[0], x).shape, run(branches[1], x).shape) for x in inputs]
        assert any(mine != theirs for mine, theirs in sizes)


def test_two_axes_and_more_than_two_branches() -> None:
    branches = [
        branch([(3, 1, 1), (3, 1, 1)], 2),
        branch([(1, 0, 1), (3, 1, 1)], 6, seed=3),
        branch([(3, 2, 2), (1, 0, 1)], 1, seed=7),
        Branch.diagonal(noise(6, seed=8), noise(6, seed=9), 2).negated(),
    ]
    branches[2:3] = [branch([(3, 2, 2), (5, 2, 1)], 3, seed=7)]
    assert grid_of(branches)
    x = noise(2, 6, 7, 8)
    wanted = sum((run(one, x) for one in branches), torch.zeros(()))
    assert relative_error(run(merged_branches(branches), x), wanted) < 1e-12


def test_a_diagonal_is_the_affine_itself() -> None:
    scale, shift, x = noise(6), noise(6, seed=2), noise(2, 6, 5)
    one = Branch.diagonal(scale, shift, 1)
    wanted = scale.view(6, 1) * x + shift.view(6, 1)
    assert relative_error(run(one, x), wanted) < 1e-14


@pytest.mark.parametrize(("groups", "fewer"), [(6, 1), (6, 2), (6, 3), (2, 1), (3, 3), (3, 1)])
@pytest.mark.parametrize("outputs", [6, 12])
def test_fewer_groups_with_zeros_are_the_same_convolution(
    groups: int, fewer: int, outputs: int
) -> None:
    one, x = branch([(3, 1, 1)], groups, outputs=outputs), noise(2, 6, 5)
    weight = regrouped_weight(one, fewer)
    assert weight.shape == (outputs, 6 // fewer, 3)
    got = F.conv1d(x, weight, one.bias, padding=1, groups=fewer)
    assert relative_error(got, run(one, x)) < 1e-13


@settings(max_examples=40, derandomize=True, deadline=None, database=None)
@given(AXIS, AXIS, st.integers(1, 2), st.integers(1, 2), st.booleans())
def test_chains(
    one: tuple[int, int, int], other: tuple[int, int, int], s1: int, s2: int, has_bias: bool
) -> None:
    first, second = branch([one], 1, s1), branch([other], 1, s2, seed=4)
    if not has_bias:
        first.bias.zero_()
    merged = chained(first, second)
    is_first_pointwise = one[0] == 1 and one[1] == 0
    is_second_pointwise = other[0] == 1 and other[1] == 0
    assert (merged is not None) == (
        is_second_pointwise or (is_first_pointwise and (other[1] == 0 or not has_bias))
    )
    assume(merged is not None)
    assert merged is not None
    for size in (18, 21):
        x = noise(1, 6, size)
        assert relative_error(run(merged, x), run(second, run(first, x))) < 1e-12


def test_a_bias_before_zero_padding_stays_a_convolution_of_its_own() -> None:
    """W = 1, b = 1, x = 0: 4 taps in the corner see the bias, and 9 in the middle."""
    assert chained(branch([(1, 0, 1)] * 2), branch([(3, 1, 1)] * 2)) is None


def test_groups_do_not_chain() -> None:
    assert chained(branch([(1, 0, 1)], 2), branch([(1, 0, 1)])) is None
    assert chained(branch([(1, 0, 1)]), branch([(1, 0, 1)], 2)) is None
