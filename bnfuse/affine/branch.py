"""A branch of a sum as a convolution, and the grid on which the taps of several branches stand."""

from __future__ import annotations

from dataclasses import dataclass, replace
from math import gcd, prod
from typing import TYPE_CHECKING

from bnfuse.affine.rounding import as_float64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A convolution over the common input, as one arm of a sum.

    Attributes:
        weight: ``(out, in / groups, *kernel)``, in any dtype: it is only made float64, or what it
            was rounded from, where it is merged.
        bias: ``(out,)``, float64.
        stride: For each spatial axis.
        padding: For each spatial axis, on both sides.
        dilation: For each spatial axis.
        groups: The number of groups.
        padding_mode: What stands at the padding.
    """

    weight: Tensor
    bias: Tensor
    stride: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str = "zeros"

    @property
    def kernel(self) -> tuple[int, ...]:
        """The size of the kernel."""
        return tuple(self.weight.shape[2:])

    @property
    def channels(self) -> tuple[int, int]:
        """How many channels it reads and writes."""
        return self.weight.shape[1] * self.groups, self.weight.shape[0]

    @property
    def multiplications(self) -> int:
        """Multiplications for each output position; moving elements takes none."""
        return Grid.of(self).multiplications

    @classmethod
    def diagonal(cls, scale: Tensor, shift: Tensor, axes: int) -> Branch:
        """Return ``s x + t`` as a pointwise convolution with a group for each channel.

        A batch norm on the input itself is one, and so is the input, with ``s = 1, t = 0``.
        """
        ones, zeros = (1,) * axes, (0,) * axes
        weight = as_float64(scale).reshape(-1, 1, *ones)
        return cls(weight, as_float64(shift), ones, zeros, ones, weight.shape[0])

    def negated(self) -> Branch:
        """Return the branch for an arm that is subtracted."""
        return replace(self, weight=-as_float64(self.weight), bias=-self.bias)


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the taps of aligned branches stand in their sum as one convolution.

    With ``P`` the largest padding, tap ``j`` of a branch stands at ``P - p + d j``; the dilation of
    the sum is the greatest common divisor of all those places. Both can be had from two grids, so
    that a branch is taken in without looking at the others again.

    Attributes:
        channels: How many channels are read and written.
        stride: For each spatial axis.
        reach: ``2 p - d (k - 1)`` for each spatial axis: by how much the output is larger.
        padding: The largest padding, for each spatial axis.
        step: What divides all places, for each spatial axis; 0 where there is one place.
        groups: The greatest common divisor of the branches' groups.
        padding_mode: What stands at the padding; None where nothing is padded.
    """

    channels: tuple[int, int]
    stride: tuple[int, ...]
    reach: tuple[int, ...]
    padding: tuple[int, ...]
    step: tuple[int, ...]
    groups: int
    padding_mode: str | None

    @classmethod
    def of(cls, branch: Branch) -> Grid:
        """Return the grid of one branch."""
        axes = tuple(zip(branch.padding, branch.dilation, branch.kernel, strict=True))
        return cls(
            branch.channels,
            branch.stride,
            tuple(2 * p - d * (k - 1) for p, d, k in axes),
            branch.padding,
            tuple(d if k > 1 else 0 for _, d, k in axes),
            branch.groups,
            branch.padding_mode if any(branch.padding) else None,
        )

    def joined(self, other: Grid) -> Grid | None:
        """Return the grid of both, or None where their branches are not aligned.

        Aligned branches give outputs of equal sizes, position by position, for every input: stride,
        channels and the mode of padding agree and, on every axis, the smaller kernel sits in the
        middle of the larger.
        """
        modes = {self.padding_mode, other.padding_mode} - {None}
        mine, theirs = ((g.channels, g.stride, g.reach) for g in (self, other))
        if mine != theirs or len(modes) > 1:
            return None
        axes = tuple(zip(self.padding, other.padding, self.step, other.step, strict=True))
        return replace(
            self,
            padding=tuple(max(p, q) for p, q, _, _ in axes),
            step=tuple(gcd(a, b, p - q) for p, q, a, b in axes),
            groups=gcd(self.groups, other.groups),
            padding_mode=next(iter(modes), None),
        )

    @property
    def dilation(self) -> tuple[int, ...]:
        """The dilation of the sum."""
        return tuple(step or 1 for step in self.step)

    @property
    def kernel(self) -> tuple[int, ...]:
        """The size of the sum's kernel."""
        axes = zip(self.padding, self.reach, self.dilation, strict=True)
        return tuple((2 * p - reach) // d + 1 for p, reach, d in axes)

    @property
    def multiplications(self) -> int:
        """Multiplications of the sum for each output position; moving elements takes none."""
        inputs, outputs = self.channels
        is_pointwise_diagonal = inputs == outputs == self.groups and prod(self.kernel) == 1
        return 0 if is_pointwise_diagonal else outputs * (inputs // self.groups) * prod(self.kernel)


def grid_of(branches: Sequence[Branch]) -> Grid | None:
    """Return the grid of several branches, or None where they are not aligned."""
    grid: Grid | None = Grid.of(branches[0])
    for branch in branches[1:]:
        grid = None if grid is None else grid.joined(Grid.of(branch))
    return grid
