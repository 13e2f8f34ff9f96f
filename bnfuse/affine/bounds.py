"""An affine before a clamp, moved behind it: what is left is a clamp with bounds for each channel.

With ``clamp(z, l, h) = min(max(z, l), h)`` and ``l <= h``::

    clamp(s x + t, l, h) = s clamp(x, (l - t) / s, (h - t) / s) + t        s > 0
    clamp(s x + t, l, h) = s clamp(x, (h - t) / s, (l - t) / s) + t        s < 0, the sides change
    clamp(s x + t, l, h) = clamp(t, l, h)                                  s = 0, x finite

A rectifier is the clamp with ``l = 0, h = inf``: ``relu(s x + t) = s max(x, -t / s) + t``, and
``s min(x, -t / s) + t`` for ``s < 0``. Infinite bounds stay infinite.

Where no shift can go on, ``s v + t = s (v + t / s)`` leaves ``t / s`` with the clamp. What a
rectifier makes 0 is 0 there as well, so that padded zeros are right.

A small scale makes bounds large. One that no number of the value's dtype reaches is infinite, which
is the same; where all of them lie beyond it the channel is a constant, as for ``s = 0``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnfuse.affine.rounding import LARGEST_BOUND, as_float64, round_bounds
from bnfuse.affine.values import Affine

if TYPE_CHECKING:
    from torch import Tensor

INFINITY = float("inf")


@dataclass(frozen=True, slots=True, eq=False)
class Bounds:
    """What a clamp keeps values between, and what is added to the result.

    Attributes:
        low: float64, broadcasting against the value; -inf where there is no bound.
        high: Likewise, inf where there is none.
        shift: Likewise; None for nothing.
    """

    low: Tensor
    high: Tensor
    shift: Tensor | None = None

    @classmethod
    def of(cls, low: Tensor | float | None, high: Tensor | float | None) -> Bounds | None:
        """Return the bounds of a clamp, or None where they are no bounds: not in order, or nan.

        >>> Bounds.of(1.0, 0.0) is None
        True
        """
        lowest = _exact(-INFINITY if low is None else low)
        highest = _exact(INFINITY if high is None else high)
        return cls(lowest, highest) if bool((lowest <= highest).all()) else None

    @property
    def operations(self) -> int:
        """How many operations on each element it takes: one for each bound, one for the shift."""
        needed = (self.low > -INFINITY).any(), (self.high < INFINITY).any()
        return max(1, sum(map(bool, needed))) + (self.shift is not None)

    def rounded(self, like: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None] | None:
        """Return low, high and shift in the dtype and on the device of a tensor.

        One that does nothing is None, but for one of the bounds at least.

        Returns:
            None where a finite number does not fit the dtype, or a clamp would make values that
            half precision cannot hold: a lower bound far above 0, an upper one far below, or a
            large shift.
        """
        reached = [self.low.clamp(min=0.0), self.high.clamp(max=0.0)]
        reached += [] if self.shift is None else [self.shift]
        if any((one.abs() > LARGEST_BOUND).any() for one in reached):
            return None
        has_high = bool((self.high < INFINITY).any())
        has_low = bool((self.low > -INFINITY).any()) or not has_high
        low = round_bounds(self.low, like) if has_low else None
        high = round_bounds(self.high, like) if has_high else None
        shift = None if self.shift is None else round_bounds(self.shift, like)
        wanted = (has_low, has_high, self.shift is not None)
        fits = wanted == (low is not None, high is not None, shift is not None)
        return (low, high, shift) if fits else None


def through_clamp(affine: Affine, bounds: Bounds, largest: float) -> tuple[Affine, Bounds]:
    """Return the affine behind a clamp that stood before it, and the clamp's new bounds.

    Args:
        affine: The affine before the clamp.
        bounds: The clamp's bounds, which broadcast against the coefficients.
        largest: The largest finite number of the value's dtype.

    >>> affine = Affine.of(torch.tensor([2.0, -2.0, 0.0]), torch.tensor([6.0, 6.0, -1.0]))
    >>> after, moved = through_clamp(affine, Bounds.of(0.0, None), 3e38)
    >>> moved.low, moved.high
    (tensor([-3., -inf, -inf], dtype=torch.float64), tensor([inf, 3., inf], dtype=torch.float64))
    >>> after.scale, after.shift
    (tensor([ 2., -2.,  0.], dtype=torch.float64), tensor([6., 6., 0.], dtype=torch.float64))
    """
    scale, shift = affine.scale, affine.shift
    low, high = (bound.to(scale.device) for bound in (bounds.low, bounds.high))
    divisor = torch.where(scale == 0, 1.0, scale)
    first, second = torch.where(scale < 0, high, low), torch.where(scale < 0, low, high)
    lowest, highest = (first - shift) / divisor, (second - shift) / divisor
    is_below, is_above = lowest > largest, highest < -largest  # whatever the value is
    is_constant = is_below | is_above | (scale == 0)
    constant = torch.where(is_below, first, torch.where(is_above, second, shift.clamp(low, high)))
    after = Affine.of(
        torch.where(is_constant, 0.0, scale), torch.where(is_constant, constant, shift)
    )
    has_low, has_high = lowest >= -largest, highest <= largest
    return after, Bounds(
        torch.where(has_low & ~is_constant, lowest, -INFINITY),
        torch.where(has_high & ~is_constant, highest, INFINITY),
    )


def with_shift(affine: Affine, bounds: Bounds) -> tuple[Affine, Bounds]:
    """Return an affine behind a clamp without its shift, and the clamp that adds it.

    ``s v + t = s (v + t / s)``; a constant ``t`` is ``clamp(x, t, t)``, with the scale 1.

    >>> affine = Affine.of(torch.tensor([2.0, 0.0]), torch.tensor([6.0, 5.0]))
    >>> after, moved = with_shift(affine, Bounds(torch.tensor([-3.0, -9.0]), torch.ones(2)))
    >>> after.scale.tolist(), moved.low.tolist(), moved.high.tolist(), moved.shift.tolist()
    ([2.0, 1.0], [-3.0, 5.0], [1.0, 5.0], [3.0, 0.0])
    """
    is_constant = affine.scale == 0
    scale = torch.where(is_constant, 1.0, affine.scale)
    low, high = (torch.where(is_constant, affine.shift, b) for b in (bounds.low, bounds.high))
    added = torch.where(is_constant, 0.0, affine.shift / scale)
    return Affine(scale, torch.zeros_like(scale)), Bounds(low, high, added)


def _exact(bound: Tensor | float) -> Tensor:
    if isinstance(bound, torch.Tensor):
        return as_float64(bound)
    return torch.tensor(bound, dtype=torch.float64)
