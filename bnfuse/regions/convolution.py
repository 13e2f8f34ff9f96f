"""Layers in float64, in less time and memory than PyTorch takes for them.

It runs one convolution for each group, one after another: a depthwise layer of 1,024 channels takes
it a tenth of a second. Tap by tap all groups go at once::

    y[n, g, o] = sum_k sum_i W[g, o, i, k] x[n, g, i] shifted by tap k

A large weight is not there in float64 as a whole: some rows of it are made and used after another.
"""

from __future__ import annotations

from itertools import product
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use
from torch.overrides import TorchFunctionMode

from bnfuse.affine import few_rows

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

    Rows = Callable[[slice], Tensor]
    """Makes some rows of a weight in float64."""

_NAMES = ("input", "weight", "bias", "stride", "padding", "dilation", "groups")
_CONVOLUTIONS = {torch.conv1d: 1, torch.conv2d: 2, torch.conv3d: 3}


MOST = 1 << 22
"""How many elements of a weight are there in float64 at a time.

They are 32 MB: the C library gives back to the system what is as large, when it goes."""
LAYERS: dict[Any, int] = {**_CONVOLUTIONS, F.linear: 0}
"""Functions that compute a layer, with the number of spatial axes of its input."""


class AllGroupsAtOnce(TorchFunctionMode):
    """Computes convolutions with more groups than taps tap by tap, as long as it is entered."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function, or what stands for it."""
        axes = _CONVOLUTIONS.get(func)
        if axes is not None:
            found = _by_taps(axes, **named(args, kwargs))
            if found is not None:
                return found
        return func(*args, **(kwargs or {}))


def named(args: tuple[Any, ...], kwargs: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the arguments of such a function by their names."""
    return {**dict(zip(_NAMES, args, strict=False)), **(kwargs or {})}


def by_rows(func: Callable[..., Any], rows: Rows, given: dict[str, Any]) -> Tensor:
    """Return the result of a layer, some of its channels after another."""
    bias, found = given.get("bias"), []
    for some in few_rows(given["weight"], MOST):
        own = {"weight": rows(some), "bias": None if bias is None else bias[some]}
        found.append(func(**{**given, **own}))
    return torch.cat(found, -1 - LAYERS[func])


def _by_taps(
    axes: int,
    input: Tensor,  # noqa: A002 - the name it has in PyTorch
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> Tensor | None:
    """Return the convolution, or None where the usual way is as good, or has to raise."""
    taps = tuple(weight.shape[2:])
    is_valid = input.ndim == axes + 2 and input.shape[1] == weight.shape[1] * groups
    is_valid &= bias is None or bias.shape == weight.shape[:1]
    is_valid &= input.dtype is weight.dtype
    if not is_valid or isinstance(padding, str) or groups <= prod(taps):
        return None
    steps, pads, dilations = (_each(v, axes) for v in (stride, padding, dilation))
    if min(pads) < 0:
        return None
    padded = F.pad(input, [p for pad in reversed(pads) for p in (pad, pad)])
    reach = [d * (k - 1) + 1 for d, k in zip(dilations, taps, strict=True)]
    sizes = zip(padded.shape[2:], reach, steps, strict=True)
    counts = [(size - r) // step + 1 for size, r, step in sizes]
    if min(counts) < 1:
        return None
    x = padded.reshape(len(padded), groups, -1, *padded.shape[2:])
    kernel = weight.reshape(groups, -1, *weight.shape[1:])
    total: Tensor | None = None
    for tap in product(*(range(k) for k in taps)):
        places = zip(tap, dilations, steps, counts, strict=True)
        window = tuple(slice(j * d, j * d + (n - 1) * s + 1, s) for j, d, s, n in places)
        shifted, own = x[_last(*window)], kernel[_last(*tap)]
        term = torch.einsum("ngi...,goi->ngo...", shifted, own)
        total = term if total is None else total + term
    if total is None:
        return None
    whole = total.flatten(1, 2)
    return whole if bias is None else whole + bias.reshape(-1, *[1] * axes)


def _each(value: Any, axes: int) -> tuple[int, ...]:
    given = tuple(value) if isinstance(value, list | tuple) else (value,)
    return given * axes if len(given) == 1 else given


def _last(*index: slice | int) -> tuple[Any, ...]:
    """Return an index into the last axes."""
    return (..., *index)
