"""How far the values of a region are from what they were."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from bnfuse.affine import all_finite
from bnfuse.regions.rounding import NONE

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnfuse.regions.rounding import Rounding

EXACT = 1e-10
"""The relative error, channel by channel, that float64 stays far below where nothing cancels."""
ZERO = 2.0**-46
"""The error of a channel of zeros, relative to the largest channel: 64 units in the last place.

Zeros that a rectifier made are the difference of two equal terms where its bounds have moved. Where
all channels are zero, what was computed on the way has the size of those terms.
"""
OWN_ERRORS = 64.0
"""How many times the effect of changing inputs and weights by some ulps an error may be."""


def difference(
    before: Sequence[Any], after: Sequence[Any], rounding: Rounding = NONE
) -> tuple[float | None, str]:
    """Return the largest relative error of any value, and what is wrong, or "".

    Each channel is held to its own size, so that a wrong one does not hide behind a large one.

    Args:
        before: The values before a rewrite.
        after: Those after it.
        rounding: What rounding may do to the values before it.
    """
    worst, complaint = 0.0, ""
    for old, new, *near in zip(before, after, *rounding.nearby, strict=True):
        leaves = [pytree.tree_leaves(value) for value in (old, new, *near)]
        if len(leaves[0]) != len(leaves[1]):
            return None, "it returns another number of values"
        for values in zip(*leaves, strict=True):
            error, found = _of_one(rounding.inner, *values)
            worst, complaint = max(worst, error), complaint or found
    return worst, complaint


def _of_one(inner: float, old: Any, new: Any, *near: Any) -> tuple[float, str]:
    if not isinstance(old, torch.Tensor) or not isinstance(new, torch.Tensor):
        return 0.0, "" if type(old) is type(new) and old == new else f"{new!r} instead of {old!r}"
    if old.shape != new.shape or not old.numel():
        shapes = tuple(new.shape), tuple(old.shape)
        return 0.0, "" if shapes[0] == shapes[1] else "shape {} instead of {}".format(*shapes)
    if old.is_complex() or new.is_complex():
        return _of_one(inner, *(_as_real(value) for value in (old, new, *near)))
    wide = old.double()
    finite = None if all_finite(wide) else torch.isfinite(wide)
    if not all_finite(new.double() if finite is None else new.double()[finite]):
        return 0.0, "not finite where it was"
    error = _by_channel(_where(finite, new.double() - wide))
    scale = _by_channel(_where(finite, wide))
    allowed = torch.where(scale > 0, EXACT * scale, ZERO * (float(scale.max()) or inner))
    for other in (value for value in near if value.shape == old.shape):
        own = _where(finite, _where(torch.isfinite(other), other.double() - wide))
        allowed = torch.maximum(allowed, OWN_ERRORS * _by_channel(own))
    relative = float(error.max()) / (float(scale.max()) or 1.0)
    bad = (error > allowed).nonzero()
    if not len(bad):
        return relative, ""
    channel = int(bad[0])
    size = float(error[channel]) / (float(scale[channel]) or 1.0)
    return relative, f"relative error {size:.1e} on channel {channel} of {len(error)}"


def _as_real(tensor: Tensor) -> Tensor:
    """Return a tensor with its imaginary part on one more axis."""
    imaginary = tensor.imag if tensor.is_complex() else torch.zeros_like(tensor)
    return torch.stack([tensor.real, imaginary], -1)


def _where(chosen: Tensor | None, values: Tensor) -> Tensor:
    """Return chosen values, and zeros in the place of all others; None chooses all."""
    return values if chosen is None else torch.where(chosen, values, 0.0)


def _by_channel(tensor: Tensor) -> Tensor:
    """Return the largest absolute value of each channel, axis 1 where there is one."""
    magnitude = tensor.abs()
    if magnitude.ndim < 2:
        return magnitude.reshape(-1)
    return magnitude.transpose(0, 1).flatten(1).amax(1)
