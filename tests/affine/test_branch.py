"""Which branches align, and the grid of their taps, taken in one by one or all at once."""

from __future__ import annotations

from itertools import permutations

from bnfuse.affine.branch import Branch, Grid, grid_of
from tests.support import noise


def branch(
    kernel: int, padding: int = 0, dilation: int = 1, *, stride: int = 1, outputs: int = 6
) -> Branch:
    weight = noise(outputs, 6, kernel)
    return Branch(weight, noise(outputs), (stride,), (padding,), (dilation,), 1)


def test_kernels_of_mixed_parity_do_not_align() -> None:
    """``p − k // 2`` agrees for k = 1, p = 0 and k = 2, p = 1; the sizes do not."""
    assert grid_of([branch(1), branch(2, 1)]) is None
    assert grid_of([branch(3, 1), branch(1), branch(5, 2)]) is not None
    assert grid_of([branch(2), branch(4, 1)]) is not None


def test_strides_and_channels_have_to_agree() -> None:
    assert grid_of([branch(3, 1), branch(1, stride=2)]) is None
    assert grid_of([branch(3, 1), branch(1, outputs=12)]) is None


def test_the_order_in_which_branches_are_taken_in_does_not_matter() -> None:
    """Dilations 2 and 3 of one centre and a tap of its own: places 0, 1, 2 .. of a dense kernel."""
    branches = [branch(3, 2, 2), branch(3, 3, 3), branch(1)]
    grids = {grid_of(order) for order in permutations(branches)}
    assert len(grids) == 1
    grid = grids.pop()
    assert grid is not None
    assert (grid.kernel, grid.padding, grid.dilation) == ((7,), (3,), (1,))


def test_even_dilations_alone_leave_a_dilated_kernel() -> None:
    grid = grid_of([branch(3, 2, 2), branch(5, 4, 2), branch(1)])
    assert grid is not None
    assert (grid.kernel, grid.padding, grid.dilation) == ((5,), (4,), (2,))


def test_a_diagonal_multiplies_nothing() -> None:
    diagonal = Branch.diagonal(noise(6), noise(6), 1)
    assert Grid.of(diagonal).multiplications == diagonal.multiplications == 0
    assert branch(3, 1).multiplications == 6 * 6 * 3
