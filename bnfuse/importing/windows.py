"""Operations that slide a window over the last axes: what it looks like, and the pools."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfuse.importing.site import Operand, Site

_MAX_POOLS = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}
_AVERAGE_POOLS: dict[int, Callable[..., Any]] = {1: F.avg_pool1d, 2: F.avg_pool2d, 3: F.avg_pool3d}


@dataclass(frozen=True, slots=True)
class Window:
    """A window, with a number for each axis it slides along.

    Attributes:
        kernel: How many elements it covers.
        stride: How far it moves.
        dilation: How far apart the elements are.
        begin: How many elements are put before the first.
        end: How many are put behind the last.
    """

    kernel: tuple[int, ...]
    stride: tuple[int, ...]
    dilation: tuple[int, ...]
    begin: tuple[int, ...]
    end: tuple[int, ...]


def window(site: Site, kernel: Sequence[int], *, is_transposed: bool = False) -> Window:
    """Read the attributes of a window.

    Args:
        site: The node.
        kernel: How many elements the window covers, for each axis.
        is_transposed: Whether it is that of a transposed convolution.
    """
    axes = len(kernel)
    stride = tuple(site.attribute("strides", [1] * axes))
    dilation = tuple(site.attribute("dilations", [1] * axes))
    mode = site.attribute("auto_pad", "NOTSET")
    if mode == "NOTSET":
        pads = site.attribute("pads", [0] * 2 * axes)
        begin, end = tuple(pads[:axes]), tuple(pads[axes:])
    elif mode == "VALID":
        begin = end = (0,) * axes
    elif is_transposed:
        raise site.error(f"auto_pad is {mode}")
    else:
        begin, end = _same_size(site, kernel, stride, dilation, is_upper=mode == "SAME_UPPER")
    lengths = {len(numbers) for numbers in (stride, dilation, begin, end)}
    if lengths != {axes} or min((*begin, *end), default=0) < 0:
        raise site.error("its paddings are negative, or its attributes do not fit its kernel")
    return Window(tuple(kernel), stride, dilation, begin, end)


def _same_size(
    site: Site,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    *,
    is_upper: bool,
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Return paddings that give ``ceil(size / stride)`` results; the odd one stands at one end."""
    totals = []
    for axis, (k, s, d) in enumerate(zip(kernel, stride, dilation, strict=True)):
        reach = d * (k - 1) + 1
        if s == 1:
            totals.append(reach - 1)
            continue
        size = site.fixed_size(0, axis + 2)
        totals.append(max(0, (math.ceil(size / s) - 1) * s + reach - size))
    less = tuple(total // 2 for total in totals)
    more = tuple(total - total // 2 for total in totals)
    return (less, more) if is_upper else (more, less)


def padded(site: Site, frame: Window, fill: float) -> tuple[Operand, tuple[int, ...]]:
    """Return the input, padded where the two ends differ, and the padding left to do."""
    given = site.value(0)
    if frame.begin == frame.end:
        return given, frame.begin
    pads = [n for b, e in zip(frame.begin, frame.end, strict=True) for n in (e, b)]
    given = site.call(F.pad, given, tuple(reversed(pads)), "constant", fill)
    return given, (0,) * len(frame.kernel)


def _max_pool(site: Site) -> Operand:
    """MaxPool; padding stands for minus infinity."""
    if len(site.outputs) > 1:
        raise site.error("the places of its maxima are read")
    frame = window(site, site.attribute("kernel_shape", []))
    half = all(2 * b <= k for b, k in zip(frame.begin, frame.kernel, strict=True))
    is_float = (site.dtype(0) or torch.float32).is_floating_point
    if not is_float or not (half or frame.begin != frame.end):
        raise site.error("it pads whole numbers, or more than half of its kernel")
    given, padding = padded(site, frame, -math.inf)
    return site.call(
        _pool(site, _MAX_POOLS, frame),
        given,
        frame.kernel,
        frame.stride,
        padding,
        frame.dilation,
        bool(site.attribute("ceil_mode", 0)),
    )


def _average_pool(site: Site) -> Operand:
    """AveragePool, over the elements alone or over the padding too."""
    frame = window(site, site.attribute("kernel_shape", []))
    counts_padding = bool(site.attribute("count_include_pad", 0))
    is_uneven = frame.begin != frame.end
    half = all(2 * b <= k for b, k in zip(frame.begin, frame.kernel, strict=True))
    if set(frame.dilation) != {1} or not (half or is_uneven):
        raise site.error("its window has gaps, or it pads more than half of its kernel")
    if is_uneven and not counts_padding:
        raise site.error("it pads the two ends differently and leaves the padding out")
    given, padding = padded(site, frame, 0.0)
    return site.call(
        _pool(site, _AVERAGE_POOLS, frame),
        given,
        frame.kernel,
        frame.stride,
        padding,
        bool(site.attribute("ceil_mode", 0)),
        counts_padding or not any(padding),
    )


def _pool(site: Site, pools: dict[int, Callable[..., Any]], frame: Window) -> Callable[..., Any]:
    if len(frame.kernel) not in pools:
        raise site.error(f"it pools {len(frame.kernel)} axes, and PyTorch 1 to 3")
    if site.rank(0) != len(frame.kernel) + 2:
        raise site.error("its kernel does not fit its input")
    return pools[len(frame.kernel)]


def _global_average(site: Site) -> Operand:
    return site.call(torch.mean, site.value(0), _places(site), True)


def _global_maximum(site: Site) -> Operand:
    return site.call(torch.amax, site.value(0), _places(site), True)


def _places(site: Site) -> tuple[int, ...]:
    return tuple(range(2, site.rank(0)))


OPERATORS: dict[str, Callable[[Site], Operand]] = {
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": _global_average,
    "GlobalMaxPool": _global_maximum,
}
"""The pools."""
