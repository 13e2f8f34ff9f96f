"""Which layers are large enough for oneDNN."""

from __future__ import annotations

import pytest
import torch

from bnfuse.kernels.sizes import is_large, is_slower_copied


@pytest.mark.parametrize(
    ("rows", "weights", "products", "directly", "by_pytorch"),
    [
        (1, 1 << 10, 1 << 10, False, False),
        (64, 1 << 8, 1 << 14, True, False),
        (1, 1 << 20, 1 << 20, True, False),
        (64, 1 << 20, 1 << 26, True, True),
        (4, 3 << 19, 3 << 21, False, False),
        (5, 3 << 19, 15 << 19, True, True),
    ],
)
def test_large(
    onednn_call: str, rows: int, weights: int, products: int, *, directly: bool, by_pytorch: bool
) -> None:
    wanted = directly if onednn_call == "directly" else by_pytorch
    assert is_large(rows, weights, products) == wanted


@pytest.mark.parametrize(
    ("shape", "taps", "wanted"),
    [((1, 64, 512), 3, False), ((1, 64, 513), 3, True), ((8, 64, 513), 11, False)],
)
def test_copies(shape: tuple[int, ...], taps: int, *, wanted: bool) -> None:
    x, weight = torch.zeros(shape), torch.zeros(64, 64, taps)
    assert is_slower_copied(x, weight) == wanted
