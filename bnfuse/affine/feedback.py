"""Rounding to half precision so that the errors of a row cancel for the inputs to be expected.

A weight between two neighbouring numbers of half precision may become either. With ``d_k`` what the
rounding adds to weight ``k`` of one output and ``d_b`` what it adds to the bias, inputs ``x_k``
change that output by ``sum_k d_k x_k + d_b``. Where the inputs of case ``c`` of ``C`` (an image, a
size) have means ``m_ck``, and variances ``v_k``, independently of each other, its mean square is::

    J(d) = 1/C sum_c (sum_k d_k m_ck + d_b)² + sum_k v_k d_k²

Rounding each weight to the nearest makes the second term smallest. The first one is the same at
every position: no pooling averages it out as it does the rounding of activations, and behind a
rectifier, where means are above 0, it is the larger of the two. So each row starts from the nearest
numbers, and those weights that lie closest to the middle between their two neighbours, for which
the other one costs least, are turned over one by one where that makes ``J`` smaller. The bias, with
``m = 1`` and ``v = 0``, is one more weight.

No weight ends further than one unit in the last place from its exact value, and ``J`` never grows.
Errors of random signs add up to about ``sqrt(n)`` times one of ``n``, so that many weights of a row
are looked at, in rounds: what is left after one is made smaller by smaller weights.

Source: that rounded weights shift the mean of an output is Nagel et al., 2019, section 4.2,
https://arxiv.org/abs/1906.04721, who correct the bias, which half precision has to round as well;
that rounding to the other neighbour can be better for the output is Nagel et al., 2020,
https://arxiv.org/abs/2004.10568.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

_ROUNDS = 3
_FREE = 16
"""How many weights of a row are looked at in a round beyond ``sqrt(n)``."""


@dataclass(frozen=True, slots=True, eq=False)
class Moments:
    """What the inputs of a layer are like, for each weight of a row.

    Attributes:
        mean: ``(groups, cases, weights of a row)``, float64.
        variance: ``(groups, weights of a row)``, float64.
    """

    mean: Tensor
    variance: Tensor

    @property
    def is_finite(self) -> bool:
        """Whether all of them are finite numbers."""
        return bool(torch.isfinite(self.mean).all() and torch.isfinite(self.variance).all())

    def joined(self, other: Moments) -> Moments:
        """Return the cases of both, with the mean of the variances."""
        own, its = (one.mean.shape[1] for one in (self, other))
        variance = (own * self.variance + its * other.variance) / (own + its)
        return Moments(torch.cat([self.mean, other.mean], 1), variance)

    def with_bias(self) -> Moments:
        """Return the moments for rows that end with the bias."""
        ones, zeros = torch.ones_like(self.mean[..., :1]), torch.zeros_like(self.variance[:, :1])
        return Moments(torch.cat([self.mean, ones], 2), torch.cat([self.variance, zeros], 1))


def round_with_feedback(
    weight: Tensor, bias: Tensor | None, moments: Moments, dtype: torch.dtype
) -> tuple[Tensor, Tensor | None]:
    """Round the weight and the bias of a convolution or a linear layer together.

    Args:
        weight: ``(out, in / groups, *kernel)``, float64, finite in ``dtype``.
        bias: ``(out,)``, float64, or None.
        moments: Those of the layer's input, with the groups of the layer.
        dtype: ``torch.float16`` or ``torch.bfloat16``.

    Returns:
        Both, in ``dtype``.

    Two weights that are both rounded down by 0.003 change the output by 0.006 for inputs of 1; the
    first one is rounded up instead:

    >>> weight = torch.tensor([[1.003, 1.003]], dtype=torch.float64)
    >>> moments = Moments(weight.new_ones(1, 1, 2), weight.new_zeros(1, 2))
    >>> round_with_feedback(weight, None, moments, torch.bfloat16)[0]
    tensor([[1.0078, 1.0000]], dtype=torch.bfloat16)
    """
    groups = moments.mean.shape[0]
    rows = weight.reshape(groups, weight.shape[0] // groups, -1)
    if bias is None:
        return _rounded(rows, moments, dtype).reshape(weight.shape), None
    rows = torch.cat([rows, bias.reshape(*rows.shape[:2], 1)], 2)
    rounded = _rounded(rows, moments.with_bias(), dtype)
    return rounded[..., :-1].reshape(weight.shape), rounded[..., -1].reshape(bias.shape)


def _rounded(exact: Tensor, moments: Moments, dtype: torch.dtype) -> Tensor:
    """Round rows of weights, ``(groups, rows, n)``.

    The errors are exact differences; from there on float32 tells well enough which to prefer.
    """
    nearest, other = _neighbours(exact, dtype)
    mean, variance = moments.mean.float(), moments.variance.float()[:, None]
    error, its = (nearest - exact).float(), (other - exact).float()
    is_other = torch.zeros_like(error, dtype=torch.bool)
    for _ in range(_ROUNDS):
        turned = _to_turn(error, its, mean, variance)
        error, its = torch.where(turned, its, error), torch.where(turned, error, its)
        is_other ^= turned
    return torch.where(is_other, other, nearest).to(dtype)


def _to_turn(error: Tensor, other: Tensor, mean: Tensor, variance: Tensor) -> Tensor:
    """Return which weights are to take the other of their two values.

    Args:
        error: What the present values add to the exact ones, ``(groups, rows, n)``.
        other: What the other ones would.
        mean: ``(groups, cases, n)``.
        variance: ``(groups, 1, n)``.
    """
    count = min(error.shape[2], _FREE + math.isqrt(error.shape[2]))
    step = other - error
    cost = step * (other + error) * variance
    totals = error @ mean.mT  # (groups, rows, cases)
    size = totals.norm(dim=2, keepdim=True)
    # How far each weight brings the totals back, measured along them; far too little does not count
    # in this round, and too much can be no gain.
    back = step * ((totals / -size.clamp_min(torch.finfo(size.dtype).tiny)) @ mean)
    is_useful = (back > size / count) & (back < 2 * size)
    price = torch.where(is_useful, cost / back, math.inf)
    price, places = price.topk(count, dim=2, largest=False, sorted=True)
    steps, costs = step.gather(2, places), cost.gather(2, places)
    is_turned = torch.zeros_like(places, dtype=torch.bool)
    groups = torch.arange(len(error))[:, None]
    for place in range(count):
        own = mean.mT[groups, places[..., place]]  # (groups, rows, cases)
        new = totals + steps[..., place, None] * own
        gain = (totals.square() - new.square()).mean(2) - costs[..., place]
        is_turned[..., place] = (gain > 0) & torch.isfinite(price[..., place])
        totals = torch.where(is_turned[..., place, None], new, totals)
    return torch.zeros_like(error, dtype=torch.bool).scatter_(2, places, is_turned)


def _neighbours(exact: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return the nearest number in a dtype, and that on the other side of the exact value.

    Both are the nearest one where it is exact, or where the other side has no finite number.
    """
    rounded = exact.to(dtype)
    nearest = rounded.to(torch.float64)
    ends = torch.where(nearest > exact, -math.inf, math.inf).to(dtype)
    other = torch.nextafter(rounded, ends).to(torch.float64)
    is_single = (nearest == exact) | ~torch.isfinite(other)
    return nearest, torch.where(is_single, nearest, other)
