"""Parallel and consecutive convolutions as one, on weights alone.

A convolution's output ``o`` reads the input at ``o * stride - p + d * j`` for its taps
``j = 0 .. k - 1``. Branches over the same input with the same stride, summed, read the union of
their taps, so one kernel that holds every tap at its place does the work of all.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from bnfuse.affine.branch import Branch, grid_of
from bnfuse.affine.rounding import as_float64

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnfuse.affine.branch import Grid


def merged_branches(branches: Sequence[Branch]) -> Branch:
    """Return the sum of aligned branches as one convolution.

    ``Grid`` says where the taps stand. Groups are merged to the greatest common divisor of the
    branches' groups; a block-diagonal weight is the same.

    Source: Ding et al., 2021, https://arxiv.org/abs/2101.03697, section 3.3, for 3x3, 1x1 and
    identity; dilation and groups follow from the same sum.

    Raises:
        ValueError: The branches are not aligned.
    """
    grid, like = grid_of(branches), branches[0].weight
    if grid is None:
        raise ValueError("the branches are not aligned")
    inputs, outputs = grid.channels
    shape = (outputs, inputs // grid.groups, *grid.kernel)
    weight = torch.zeros(shape, dtype=torch.float64, device=like.device)
    for branch in branches:
        weight[(slice(None), slice(None), *_places(grid, branch))] += regrouped_weight(
            branch, grid.groups
        )
    bias = torch.stack([branch.bias for branch in branches]).sum(0)
    mode = grid.padding_mode or "zeros"
    return Branch(weight, bias, grid.stride, grid.padding, grid.dilation, grid.groups, mode)


def _places(grid: Grid, branch: Branch) -> tuple[slice, ...]:
    """Return where the taps ``j`` of a branch stand in the sum's kernel: ``(P - p + d j) / step``.

    The taps align, so that ``step`` divides ``P - p``, and ``d`` where there is more than one.
    """
    axes = zip(
        grid.padding, branch.padding, branch.dilation, branch.kernel, grid.dilation, strict=True
    )
    places = []
    for whole, own, d, size, step in axes:
        first, last = ((whole - own + d * j) // step for j in (0, size - 1))
        places.append(slice(first, last + 1, max(d // step, 1)))
    return tuple(places)


def regrouped_weight(branch: Branch, groups: int) -> Tensor:
    """Return a branch's weight for fewer groups, with zeros where it read nothing.

    Output ``o`` of the branch's group ``g`` reads the inputs from ``g * in / g_branch`` on; inside
    the new, larger group they stand at that place modulo the new group's size.
    """
    weight = as_float64(branch.weight)
    if groups == branch.groups:
        return weight
    inputs, outputs = branch.channels
    own = weight.shape[1]
    wide = weight.new_zeros(outputs, inputs // groups, *branch.kernel)
    first = torch.arange(outputs) // (outputs // branch.groups) * own % (inputs // groups)
    for offset in range(own):
        wide[torch.arange(outputs), first + offset] = weight[:, offset]
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
    before, behind = as_float64(first.weight), as_float64(second.weight)
    inner = torch.einsum("om...,m->o", behind.flatten(2).sum(2), first.bias)
    bias = second.bias + inner
    if prod(second.kernel) == 1 and not any(second.padding):
        weight = torch.einsum("om,mi...->oi...", behind.flatten(1), before)
        return Branch(weight, bias, stride, first.padding, first.dilation, 1)
    is_pointwise = prod(first.kernel) == 1 and not any(first.padding)
    if not is_pointwise or (any(second.padding) and bool((first.bias != 0).any())):
        return None
    weight = torch.einsum("om...,mi->oi...", behind, before.flatten(1))
    padding = tuple(s * p for s, p in zip(first.stride, second.padding, strict=True))
    dilation = tuple(s * d for s, d in zip(first.stride, second.dilation, strict=True))
    return Branch(weight, bias, stride, padding, dilation, 1)
