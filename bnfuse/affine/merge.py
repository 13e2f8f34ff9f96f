"""Parallel and consecutive convolutions as one, on weights alone.

A convolution's output ``o`` reads the input at ``o * stride - p + d * j`` for its taps
``j = 0 .. k - 1``. Branches over the same input with the same stride, summed, read the union of
their taps, so one kernel that holds every tap at its place does the work of all.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from itertools import product
from math import gcd, prod
from typing import TYPE_CHECKING

import torch

from bnfuse.affine.rounding import as_float64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Branch:
    """A convolution over the common input, as one arm of a sum.

    Attributes:
        weight: ``(out, in / groups, *kernel)``, float64.
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
        return 0 if self.is_pointwise_diagonal else self.weight.numel()

    @property
    def is_pointwise_diagonal(self) -> bool:
        """Whether each output channel is its input channel times a number."""
        inputs, outputs = self.channels
        return inputs == outputs == self.groups and prod(self.kernel) == 1

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
        return replace(self, weight=-self.weight, bias=-self.bias)


def are_aligned(branches: Sequence[Branch]) -> bool:
    """Whether the branches give outputs of equal sizes, position by position, for every input.

    That is so where stride, channels and the mode of padding agree and, on every axis,
    the smaller kernel sits in the middle of the larger.
    """
    first = branches[0]
    if len({branch.padding_mode for branch in branches if any(branch.padding)}) > 1:
        return False
    return all(
        branch.stride == first.stride
        and branch.channels == first.channels
        and _reach(branch) == _reach(first)
        for branch in branches
    )


def _reach(branch: Branch) -> tuple[int, ...]:
    axes = zip(branch.padding, branch.dilation, branch.kernel, strict=True)
    return tuple(2 * p - d * (k - 1) for p, d, k in axes)


@dataclass(frozen=True, slots=True)
class _Form:
    """What the sum of aligned branches looks like, and where their taps stand in it."""

    places: list[list[list[int]]]
    kernel: tuple[int, ...]
    padding: tuple[int, ...]
    dilation: tuple[int, ...]
    groups: int
    padding_mode: str

    @classmethod
    def of(cls, branches: Sequence[Branch]) -> _Form:
        """Find the common grid of the taps."""
        axes = range(len(branches[0].stride))
        padding = tuple(max(branch.padding[axis] for branch in branches) for axis in axes)
        places = [
            [
                [padding[axis] - one.padding[axis] + one.dilation[axis] * tap for tap in range(k)]
                for axis, k in enumerate(one.kernel)
            ]
            for one in branches
        ]
        steps = [gcd(*(place for own in places for place in own[axis])) or 1 for axis in axes]
        ends = [max(place for own in places for place in own[axis]) for axis in axes]
        kernel = tuple(end // step + 1 for end, step in zip(ends, steps, strict=True))
        groups = gcd(*(branch.groups for branch in branches))
        mode = next((branch.padding_mode for branch in branches if any(branch.padding)), "zeros")
        return cls(places, kernel, padding, tuple(steps), groups, mode)


def merged_cost(branches: Sequence[Branch]) -> int:
    """Return how many multiplications the sum of aligned branches takes as one convolution."""
    form = _Form.of(branches)
    inputs, outputs = branches[0].channels
    is_pointwise_diagonal = inputs == outputs == form.groups and prod(form.kernel) == 1
    return 0 if is_pointwise_diagonal else outputs * (inputs // form.groups) * prod(form.kernel)


def merged_padding_mode(branches: Sequence[Branch]) -> str:
    """Return how the sum of aligned branches is padded."""
    return _Form.of(branches).padding_mode


def merged_branches(branches: Sequence[Branch]) -> Branch:
    """Return the sum of aligned branches as one convolution.

    With ``P`` the largest padding, tap ``j`` of a branch stands at ``P - p + d j`` in a kernel with
    a dilation that is the greatest common divisor of all those places. Groups are merged to the
    greatest common divisor of the branches' groups; a block-diagonal weight is the same.

    Source: Ding et al., 2021, https://arxiv.org/abs/2101.03697, section 3.3, for 3x3, 1x1 and
    identity; dilation and groups follow from the same sum.
    """
    form, like = _Form.of(branches), branches[0].weight
    inputs, outputs = branches[0].channels
    shape = (outputs, inputs // form.groups, *form.kernel)
    weight = torch.zeros(shape, dtype=torch.float64, device=like.device)
    for branch, own in zip(branches, form.places, strict=True):
        taps = [[p // step for p in axis] for axis, step in zip(own, form.dilation, strict=True)]
        own_weight = regrouped_weight(branch, form.groups)
        for tap in product(*(enumerate(places_on_axis) for places_on_axis in taps)):
            mine, theirs = zip(*tap, strict=True)
            weight[(..., *theirs)] += own_weight[(..., *mine)]
    bias = torch.stack([branch.bias for branch in branches]).sum(0)
    geometry = (branches[0].stride, form.padding, form.dilation, form.groups, form.padding_mode)
    return Branch(weight, bias, *geometry)


def regrouped_weight(branch: Branch, groups: int) -> Tensor:
    """Return a branch's weight for fewer groups, with zeros where it read nothing.

    Output ``o`` of the branch's group ``g`` reads the inputs from ``g * in / g_branch`` on; inside
    the new, larger group they stand at that place modulo the new group's size.
    """
    if groups == branch.groups:
        return branch.weight
    inputs, outputs = branch.channels
    own = branch.weight.shape[1]
    wide = branch.weight.new_zeros(outputs, inputs // groups, *branch.kernel)
    first = torch.arange(outputs) // (outputs // branch.groups) * own % (inputs // groups)
    for offset in range(own):
        wide[torch.arange(outputs), first + offset] = branch.weight[:, offset]
    return wide


def chained(first: Branch, second: Branch) -> Branch | None:
    """Return two consecutive convolutions, without groups, as one, or None where none is equal.

    ``W2 * (W1 * x + b1) + b2`` with a pointwise kernel on either side::

        W[o, i, k] = sum_m W2[o, m] W1[m, i, k]        b = W2 b1 + b2

    A second kernel that is not pointwise reads zeros at its padding, where the merged one would
    read ``b1``: so there ``b1`` has to be 0, or the padding. And a first one with padding of its
    own has outputs beyond the input, which the second one's padding would stand for: declined.
    """
    if first.groups != 1 or second.groups != 1:
        return None
    if any(b.padding_mode != "zeros" and any(b.padding) for b in (first, second)):
        return None
    stride = tuple(a * b for a, b in zip(first.stride, second.stride, strict=True))
    inner = torch.einsum("om...,m->o", second.weight.flatten(2).sum(2), first.bias)
    bias = second.bias + inner
    if prod(second.kernel) == 1 and not any(second.padding):
        weight = torch.einsum("om,mi...->oi...", second.weight.flatten(1), first.weight)
        return Branch(weight, bias, stride, first.padding, first.dilation, 1)
    is_pointwise = prod(first.kernel) == 1 and not any(first.padding)
    if not is_pointwise or (any(second.padding) and bool((first.bias != 0).any())):
        return None
    weight = torch.einsum("om...,mi->oi...", second.weight, first.weight.flatten(1))
    padding = tuple(s * p for s, p in zip(first.stride, second.padding, strict=True))
    dilation = tuple(s * d for s, d in zip(first.stride, second.dilation, strict=True))
    return Branch(weight, bias, stride, padding, dilation, 1)
