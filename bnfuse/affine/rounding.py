"""Precision at the borders of the algebra: in as float64, out rounded once."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def as_float64(tensor: Tensor) -> Tensor:
    """Return ``tensor`` as a detached float64 tensor on its own device, or on the CPU for mps.

    Every stored dtype that folds (float16, bfloat16, float32, float64) is exact in float64.
    """
    detached = tensor.detach()
    if detached.device.type == "mps":  # Apple's GPU has no float64
        detached = detached.cpu()
    return detached.to(torch.float64)


def round_once(exact: Tensor, like: Tensor) -> Tensor | None:
    """Round a float64 tensor to the dtype and device of ``like``.

    The memory format is kept where the shapes agree.

    Returns:
        The rounded tensor, or None where a finite value becomes infinite in that dtype.

    >>> round_once(torch.tensor([70000.0], dtype=torch.float64), torch.zeros(1).half()) is None
    True
    """
    rounded = exact.to(device=like.device, dtype=like.dtype)
    if not torch.isfinite(rounded).all():
        return None
    if rounded.shape != like.shape:
        return rounded.contiguous()
    return torch.empty_like(like).copy_(rounded)  # empty_like keeps the memory format
