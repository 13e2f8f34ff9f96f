"""How large a layer has to be for oneDNN's kernels to be faster than plain operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.kernels.installed import installed

if TYPE_CHECKING:
    from torch import Tensor

FEW_PRODUCTS = 1 << 16
"""Below these a plain operator is done before PyTorch has looked up oneDNN's kernel, some 20 µs."""
_FEW_ROWS = 4
_FEW_PRODUCTS_DIRECTLY = 1 << 13
"""Below this it is done before oneDNN itself has been called."""
_MANY_WEIGHTS = 3 << 19
"""With so many, a few rows take as long as the weight takes to come from memory, packed or not."""

_FEW_TAPS = 9
_FEW_COPIED = 1 << 15
"""Signals of more elements take longer to be copied channels last and back than oneDNN gains, if
each result is a sum over so few samples; for longer kernels PyTorch's own operator is slow."""


def is_large(rows: int, weights: int, products: int) -> bool:
    """Whether oneDNN is likely to be faster than plain operators for a layer.

    Args:
        rows: How many inputs each weight meets: pixels, or rows of a matrix.
        weights: How many weights there are.
        products: How many products are summed.
    """
    if installed().library is None:
        return rows > _FEW_ROWS and products >= FEW_PRODUCTS
    is_read_once = rows <= _FEW_ROWS and weights >= _MANY_WEIGHTS
    return products >= _FEW_PRODUCTS_DIRECTLY and not is_read_once


def is_slower_copied(x: Tensor, weight: Tensor) -> bool:
    """Whether a layer is not worth copying a contiguous signal, and its result back.

    Args:
        x: The signal, ``(n, c, l)``.
        weight: The weight, ``(out, in / groups, taps)``.
    """
    return x.numel() > _FEW_COPIED and weight.shape[2] <= _FEW_TAPS
