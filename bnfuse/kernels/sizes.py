"""How large a layer has to be for oneDNN's kernels to be faster than plain operators."""

from __future__ import annotations

from bnfuse.kernels.installed import installed

FEW_PRODUCTS = 1 << 16
"""Below these a plain operator is done before PyTorch has looked up oneDNN's kernel, some 20 µs."""
_FEW_ROWS = 4
_FEW_PRODUCTS_DIRECTLY = 1 << 13
"""Below this it is done before oneDNN itself has been called."""
_MANY_WEIGHTS = 3 << 19
"""With so many, a few rows take as long as the weight takes to come from memory, packed or not."""


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
