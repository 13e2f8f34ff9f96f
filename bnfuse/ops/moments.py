"""Mean and variance of what a convolution or a linear layer reads, for each of its weights."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.affine.feedback import Moments
from bnfuse.ops.geometry import each_axis, padding_of
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.ops.calls import Call

MOST_CASES = 8
"""Into how many parts a batch is divided at most."""


def moments_of(call: Call, value: Tensor) -> Moments | None:
    """Return the moments of a value as a layer's weights meet it, or None for another operation.

    Each tap of a convolution reads the zeros of its own part of the padding; the mean counts them,
    the variance is that of the channel.

    Args:
        call: The layer.
        value: What it is given.
    """
    if call.kind is Kind.LINEAR:
        return _of_rows(value)
    if call.kind is not Kind.CONVOLUTION or value.ndim != call.weight.ndim:
        return None
    means = [_mean_at_taps(call, images) for images in _cases(value)]
    taps = [one for one in means if one is not None]
    if not taps:
        return None
    groups = int(call.options["groups"])
    variance = value.transpose(0, 1).flatten(1).var(1, correction=0, keepdim=True)
    each = torch.stack([one.reshape(groups, -1) for one in taps], 1)
    return _exact(each, variance.expand_as(taps[0]).reshape(groups, -1))


def _of_rows(value: Tensor) -> Moments:
    """Return the moments of what a linear layer reads, ``(batch, ..., in)``."""
    rows = value.reshape(-1, value.shape[-1])
    cases = _cases(value if value.ndim > 1 else rows)
    means = [case.reshape(-1, case.shape[-1]).mean(0) for case in cases]
    return _exact(torch.stack(means)[None], rows.var(0, correction=0)[None])


def _exact(mean: Tensor, variance: Tensor) -> Moments:
    """Return moments in float64, on the CPU, since not every device has it."""
    return Moments(mean.cpu().double(), variance.cpu().double())


def _cases(value: Tensor) -> tuple[Tensor, ...]:
    """Return the inputs of a batch one by one, or in a few parts."""
    return value.chunk(min(MOST_CASES, value.shape[0]))


def _mean_at_taps(call: Call, value: Tensor) -> Tensor | None:
    """Return the mean of what each tap reads, ``(in, taps)``; None where that is not known."""
    axes = call.weight.ndim - 2
    stride, dilation = (each_axis(call.options[name], axes) for name in ("stride", "dilation"))
    padding, mode = padding_of(call, call.weight), str(call.options["padding_mode"])
    if stride is None or dilation is None or padding is None:
        return None
    pads = [amount for amount in reversed(padding) for _ in "ab"]
    padded = F.pad(value.mean(0, keepdim=True), pads, mode="constant" if mode == "zeros" else mode)
    kernel = call.weight.shape[2:]
    sizes = zip(padded.shape[2:], kernel, dilation, stride, strict=True)
    counts = [(size - d * (k - 1) - 1) // s + 1 for size, k, d, s in sizes]
    means = []
    for tap in product(*(range(k) for k in kernel)):
        places = zip(tap, dilation, stride, counts, strict=True)
        window = [slice(j * d, j * d + s * (n - 1) + 1, s) for j, d, s, n in places]
        means.append(padded[0][:, *window].flatten(1).mean(1))
    return torch.stack(means, 1)
