"""A clamp with bounds of its own for each channel, in the place of a batch norm and an activation.

::

    relu(s x + t) = s max(x, -t / s) + t              s > 0; behind a negative scale it is a minimum
                  = s (max(x, -t / s) + t / s)        where no shift can go on

The affine that is left behind it is absorbed by what reads it; ``bnfuse.affine.bounds`` has the
algebra.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


class ChannelClamp(nn.Module):
    """Returns ``min(max(x, low), high) + shift``, a tensor of its own, in the dtype of ``x``.

    All three broadcast against the value without making it larger.

    Args:
        low: The lower bounds; None for none, which is what an infinite one is as well.
        high: The upper bounds, likewise.
        shift: What is added; None for nothing.
    """

    min: Tensor | None
    max: Tensor | None
    shift: Tensor | None

    def __init__(
        self, low: Tensor | None, high: Tensor | None = None, shift: Tensor | None = None
    ) -> None:
        super().__init__()
        for name, tensor in (("min", low), ("max", high), ("shift", shift)):
            self.register_buffer(name, tensor)

    def forward(self, x: Tensor) -> Tensor:
        """Return the value, clamped and shifted."""
        if not isinstance(x, torch.Tensor):
            return self._traced(x)
        low, high, shift = (_in_dtype(tensor, x) for tensor in (self.min, self.max, self.shift))
        clamped = _clamped(x, low, high)
        if shift is None:
            return clamped
        return clamped + shift if clamped is x or _is_watched() else clamped.add_(shift)

    def _traced(self, x: Any) -> Any:
        """Return the same of a stand-in for a value, of which nothing can be asked."""
        for bound, function in ((self.min, torch.maximum), (self.max, torch.minimum)):
            x = x if bound is None else function(x, bound.type_as(x))
        return x if self.shift is None else x + self.shift.type_as(x)

    def _apply(self, fn: Any, recurse: bool = True) -> Any:
        """Convert the bounds; one that is too large for its new dtype becomes a large number.

        An infinite one would make infinite what it was to keep finite.
        """
        before = {name: bound for name, bound in self._buffers.items() if bound is not None}
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]  # torch's
        for name, old in before.items():
            self._buffers[name] = _as_finite(self.get_buffer(name), old)
        return self

    def extra_repr(self) -> str:
        """Return the shapes of what there is."""
        tensors = ((name, tensor) for name, tensor in self._buffers.items() if tensor is not None)
        return ", ".join(f"{name}={tuple(tensor.shape)}" for name, tensor in tensors)


def _clamped(x: Tensor, low: Tensor | None, high: Tensor | None) -> Tensor:
    if high is None:
        return x if low is None else torch.maximum(x, low)
    if low is None:
        return torch.minimum(x, high)
    if _is_watched():
        return torch.minimum(torch.maximum(x, low), high)
    if x.is_contiguous():  # with two bounds PyTorch has a fast loop for channels last alone
        return torch.maximum(x, low).clamp_max_(high)
    return torch.clamp(x, low, high)


def _is_watched() -> bool:
    """Whether a graph is being made of the call, in which nothing is to be written in place."""
    return torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None


def _in_dtype(bound: Tensor | None, x: Tensor) -> Tensor | None:
    """Return a bound in the dtype of a value, which autocast may have changed."""
    if bound is None or bound.dtype is x.dtype:
        return bound
    return _as_finite(bound.to(x.dtype), bound)


def _as_finite(new: Tensor, old: Tensor) -> Tensor:
    """Return a converted bound, large but finite where it was finite and is not now.

    Half of the largest number leaves room for a sum.
    """
    if new.dtype is old.dtype or not new.is_floating_point():
        return new
    large = torch.finfo(new.dtype).max / 2
    is_new = new.isinf() & old.isfinite().to(new.device)
    return torch.where(is_new, new.clamp(-large, large), new)
