"""The end of a layer as one Triton kernel: what three operators do, read once and written once.

::

    y ── + b ── + r ── silu ── y'          reads y, y, r, y and writes three times
    y, b, r ── silu(y + b + r) ── y'       reads y, r and writes once, over y

Elements are taken in the order in which they lie in memory, in groups of ``WIDTH`` that share a
channel (contiguous) or lie on neighbouring ones (channels last), so that a thread moves 16 bytes at
once and divides once. With ``g`` the number of a group::

    contiguous        channel = (g // (inner / WIDTH)) % channels        inner = h w
    channels last     channel = (g % (channels / WIDTH)) WIDTH + lane

All is computed in float32 and rounded once. Import this only where Triton is there.
"""

from __future__ import annotations

import triton
import triton.language as tl

WARPS = 4


@triton.jit(do_not_specialize=["groups", "period", "channels", "a", "b"])
def epilogue_kernel(
    y: tl.tensor,
    bias: tl.tensor,
    other: tl.tensor,
    groups: tl.tensor,
    period: tl.tensor,
    channels: tl.tensor,
    a: tl.tensor,
    b: tl.tensor,
    FORMULA: tl.constexpr,
    BINARY: tl.constexpr,
    HAS_BIAS: tl.constexpr,
    IS_LAST: tl.constexpr,
    WIDTH: tl.constexpr,
    ROWS: tl.constexpr,
) -> None:
    """Write ``formula((y + bias) + other)``, or the product, over ``y``.

    Args:
        y: Float16, bfloat16 or float32; dense in either layout.
        bias: A vector of the dtype of ``y``; not read without ``HAS_BIAS``.
        other: Of the dtype and layout of ``y``; not read if ``BINARY`` is empty.
        groups: The elements of ``y``, divided by ``WIDTH``.
        period: ``inner`` or, channels last, ``channels``, divided by ``WIDTH``.
        channels: The elements of ``bias``.
        a: The first number of the activation.
        b: The second.
        FORMULA: That of the activation, or None.
        BINARY: ``"add"``, ``"mul"`` or empty.
        HAS_BIAS: Whether there is a bias.
        IS_LAST: Whether ``y`` lies channels last.
        WIDTH: How many elements are taken together, a power of 2 that divides the period.
        ROWS: How many groups a program takes.
    """
    group = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    lane = tl.arange(0, WIDTH)[None, :]
    inside = (group < groups)[:, None]
    at = group[:, None] * WIDTH + lane
    x = tl.load(y + at, mask=inside, other=0.0).to(tl.float32)
    if HAS_BIAS:
        if IS_LAST:
            channel = (group % period)[:, None] * WIDTH + lane
        else:
            channel = ((group // period) % channels)[:, None]
        x += tl.load(bias + channel).to(tl.float32)
    if BINARY == "add":
        x += tl.load(other + at, mask=inside, other=0.0).to(tl.float32)
    if BINARY == "mul":
        x *= tl.load(other + at, mask=inside, other=0.0).to(tl.float32)
    if FORMULA is not None:
        x = FORMULA(x, a, b)
    tl.store(y + at, x.to(y.dtype.element_ty), mask=inside)
