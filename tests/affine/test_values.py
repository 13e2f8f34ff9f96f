"""The affine of a batch norm, against PyTorch's own batch norm."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.affine import Affine
from tests.support import noise, relative_error


@pytest.mark.parametrize("has_gamma", [True, False])
@pytest.mark.parametrize("has_beta", [True, False])
@pytest.mark.parametrize("eps", [1e-5, 1e-3, 1e-12])
def test_affine_is_what_batch_norm_computes(has_gamma: bool, has_beta: bool, eps: float) -> None:
    x, mean, variance = noise(2, 5, 3), noise(5, seed=2), noise(5, seed=3).abs() + 0.1
    gamma = noise(5, seed=4) if has_gamma else None
    beta = noise(5, seed=5) if has_beta else None
    affine = Affine.of_batch_norm(mean, variance, gamma, beta, eps)
    wanted = F.batch_norm(x, mean, variance, gamma, beta, training=False, eps=eps)
    got = affine.scale.view(1, 5, 1) * x + affine.shift.view(1, 5, 1)
    assert relative_error(got, wanted) < 1e-14


def test_statistics_stored_in_half_are_read_exactly() -> None:
    mean = noise(4).half()
    variance = (noise(4, seed=2).abs() + 0.1).half()
    low = Affine.of_batch_norm(mean, variance, None, None, 1e-5)
    wide = Affine.of_batch_norm(mean.double(), variance.double(), None, None, 1e-5)
    assert torch.equal(low.scale, wide.scale)
    assert torch.equal(low.shift, wide.shift)
    assert low.scale.dtype is torch.float64


def test_then_composes_in_the_order_of_the_words() -> None:
    x = noise(3)
    first, second = Affine(noise(3, seed=2), noise(3, seed=3)), Affine(noise(3, seed=4), noise(3))
    wanted = second.scale * (first.scale * x + first.shift) + second.shift
    both = first.then(second)
    assert relative_error(both.scale * x + both.shift, wanted) < 1e-14


@pytest.mark.parametrize("variance", [-1.0, float("inf"), float("nan")])
def test_unusable_statistics_are_seen(variance: float) -> None:
    affine = Affine.of_batch_norm(
        torch.zeros(2), torch.tensor([1.0, variance]), torch.ones(2), torch.zeros(2), 0.0
    )
    assert affine.is_finite is (variance == float("inf"))  # 1 / sqrt(inf) is 0, which is finite
    assert affine.channels == 2
