"""The affine ``y = scale * x + shift``, the common form of everything that folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnfuse.affine.rounding import all_finite, as_float64

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """``y = scale * x + shift`` with coefficients that broadcast against the value ``x``.

    A vector ``(channels,)`` stands for one axis of the value, which the user of the vector knows.
    On its way through a graph the affine has as many axes as the value, each of size 1 or of the
    value's size there; then a layout operation moves the coefficients as it moves the value. With
    one axis it stands on the last axis of a value of any rank, with none on any axis.

    Attributes:
        scale: float64.
        shift: float64, of the same shape.
    """

    scale: Tensor
    shift: Tensor

    @classmethod
    def of_batch_norm(
        cls,
        mean: Tensor,
        variance: Tensor,
        gamma: Tensor | None,
        beta: Tensor | None,
        eps: float,
    ) -> Affine:
        """Return the affine that an inference batch norm is, on axis 1 of its input.

        With the running mean ``mean`` and the running variance ``variance``::

            y = gamma * (x - mean) / sqrt(variance + eps) + beta

        so ``scale = gamma / sqrt(variance + eps)`` and ``shift = beta - scale * mean``. A missing
        ``gamma`` counts as 1, a missing ``beta`` as 0.

        Source: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167, Algorithm 2.

        >>> affine = Affine.of_batch_norm(
        ...     torch.tensor([1.0]), torch.tensor([4.0]), torch.tensor([6.0]), None, eps=0.0
        ... )
        >>> affine.scale.item(), affine.shift.item()
        (3.0, -3.0)
        """
        scale = torch.rsqrt(as_float64(variance) + eps)
        if gamma is not None:
            scale = as_float64(gamma) * scale
        shift = -scale * as_float64(mean)
        if beta is not None:
            shift = as_float64(beta) + shift
        return cls(scale, shift)

    @classmethod
    def of(cls, scale: Tensor | float, shift: Tensor | float) -> Affine:
        """Return the affine with the given coefficients, broadcast against each other."""
        pair = [as_float64(torch.as_tensor(value)) for value in (scale, shift)]
        device = next((value.device for value in pair if value.ndim), pair[0].device)
        one, other = (value.to(device) for value in pair)
        return cls(one + torch.zeros_like(other), other + torch.zeros_like(one))

    @property
    def channels(self) -> int:
        """How many channels a vector of coefficients has."""
        return self.scale.numel()

    @property
    def rank(self) -> int:
        """How many axes the coefficients have."""
        return self.scale.ndim

    @property
    def is_placed(self) -> bool:
        """Whether the coefficients stand on an axis that the value's rank tells."""
        return self.rank > 1

    @property
    def is_finite(self) -> bool:
        """Whether every scale and every shift is a finite number."""
        return all_finite(self.scale) and all_finite(self.shift)

    @property
    def has_shift(self) -> bool:
        """Whether any shift is not 0."""
        return bool((self.shift != 0).any())

    @property
    def has_scale(self) -> bool:
        """Whether any scale is not 1."""
        return bool((self.scale != 1).any())

    @property
    def is_positive(self) -> bool:
        """Whether every scale is above 0."""
        return bool((self.scale > 0).all())

    def then(self, later: Affine) -> Affine:
        """Return this affine followed by ``later``: ``s2 (s1 x + t1) + t2``.

        >>> one = Affine(torch.tensor([2.0]), torch.tensor([1.0]))
        >>> both = one.then(Affine(torch.tensor([3.0]), torch.tensor([5.0])))
        >>> both.scale.item(), both.shift.item()
        (6.0, 8.0)
        """
        return Affine.of(later.scale * self.scale, later.scale * self.shift + later.shift)

    def without_shift(self) -> Affine:
        """Return the scale alone."""
        return Affine(self.scale, torch.zeros_like(self.shift))

    def map(self, function: Callable[[Tensor], Tensor]) -> Affine:
        """Return the affine with a layout operation applied to both coefficients."""
        return Affine(function(self.scale), function(self.shift))

    def is_constant_on(self, axis: int) -> bool:
        """Whether the coefficients are the same all along an axis of the value."""
        return self.scale.shape[axis] == 1

    def on_axis(self, axis: int, rank: int) -> Affine:
        """Return a vector of coefficients as those of one axis of a value with ``rank`` axes.

        >>> Affine.of(torch.ones(3), 0.0).on_axis(1, rank=4).scale.shape
        torch.Size([1, 3, 1, 1])
        """
        return self.map(lambda c: c.reshape([-1 if a == axis else 1 for a in range(rank)]))

    def on_any_axis(self, size: int) -> Affine:
        """Return a single pair of coefficients as vectors, for an axis of that size."""
        return self.map(lambda c: c.reshape(-1).expand(size).contiguous())

    def along(self, axis: int, size: int) -> Affine | None:
        """Return the coefficients along one axis as vectors, or None where others matter as well.

        Args:
            axis: The axis of the value.
            size: The value's size there.

        >>> Affine.of(torch.ones(1, 3, 1), 0.0).along(1, 3).scale.shape
        torch.Size([3])
        """
        others = [n for a, n in enumerate(self.scale.shape) if a != axis % self.rank]
        if any(n != 1 for n in others) or self.scale.shape[axis] not in (1, size):
            return None
        return self.map(lambda c: c.reshape(-1).expand(size).contiguous())
