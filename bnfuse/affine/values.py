"""The per-channel affine ``y = scale * x + shift``, the common form of everything that folds."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnfuse.affine.rounding import as_float64

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True, slots=True, eq=False)
class Affine:
    """``y = scale * x + shift`` along one axis of the value.

    Attributes:
        scale: float64, shape ``(channels,)``.
        shift: float64, shape ``(channels,)``.
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

    @property
    def channels(self) -> int:
        """How many channels the affine has."""
        return self.scale.numel()

    @property
    def is_finite(self) -> bool:
        """Whether every scale and every shift is a finite number."""
        return bool(torch.isfinite(self.scale).all() and torch.isfinite(self.shift).all())

    def then(self, later: Affine) -> Affine:
        """Return this affine followed by ``later``: ``s2 (s1 x + t1) + t2``.

        >>> one = Affine(torch.tensor([2.0]), torch.tensor([1.0]))
        >>> both = one.then(Affine(torch.tensor([3.0]), torch.tensor([5.0])))
        >>> both.scale.item(), both.shift.item()
        (6.0, 8.0)
        """
        return Affine(later.scale * self.scale, later.scale * self.shift + later.shift)
