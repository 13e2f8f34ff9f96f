"""Average pools as branches: convolutions of each channel with the same number at every tap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.passes.branches import Block, calls_of, conv, merged
from tests.support import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[Any, Tensor], object]

X = noise(2, 4, 7, 6)


def is_merged(run: Run, x: Tensor = X, **layers: nn.Module) -> bool:
    calls = calls_of(merged(Block(run, **layers), x))
    return sum(calls[name] for name in ("AvgPool1d", "AvgPool2d", "avg_pool2d")) == 0


def beside(pool: nn.Module, **options: Any) -> bool:
    layers = {"pool": pool, "conv": conv(**options)}
    return is_merged(lambda m, x: m.pool(x) + m.conv(x), noise(2, 4, 7, 7), **layers)


@pytest.mark.parametrize(
    ("pool", "options"),
    [
        (nn.AvgPool2d(3, 1, 1), {}),
        (nn.AvgPool2d(3, 1, 1), {"groups": 2}),
        (nn.AvgPool2d(3, 1, 1), {"groups": 4, "bias": False}),
        (nn.AvgPool2d((3, 1), (1, 1), (1, 0)), {}),
        (nn.AvgPool2d(3, 1, 1), {"size": 5}),
        (nn.AvgPool2d(3, 2, 1), {"stride": 2}),
        (nn.AvgPool2d(3, 2), {"stride": 2, "padding": 0}),
        (nn.AvgPool2d(3, 1, 1, divisor_override=5), {}),
        (nn.AvgPool2d(3, 1, 0, count_include_pad=False), {"padding": 0}),
        (nn.AvgPool2d(3), {"stride": 3, "padding": 0}),
    ],
)
def test_pools_beside_a_convolution(pool: nn.Module, options: dict[str, Any]) -> None:
    assert beside(pool, **options)


@pytest.mark.parametrize(
    ("pool", "options"),
    [
        (nn.AvgPool2d(3, 1, 1, count_include_pad=False), {}),
        (nn.AvgPool2d(3, 2, 1, ceil_mode=True), {"stride": 2}),
        (nn.AvgPool2d(3, 1, 1), {"size": 1}),  # 9 times the multiplications
        (nn.AvgPool2d(3, 1, 1), {"padding_mode": "reflect"}),
    ],
)
def test_pools_that_are_no_such_convolution(pool: nn.Module, options: dict[str, Any]) -> None:
    assert not beside(pool, **options)


def test_other_spellings_and_signs() -> None:
    assert is_merged(lambda m, x: m.conv(x) - F.avg_pool2d(x, 3, 1, 1), conv=conv())
    assert is_merged(lambda m, x: x + m.conv(x) + F.avg_pool2d(x, 3, 1, 1), conv=conv())
    assert not is_merged(lambda m, x: m.conv(x) + F.avg_pool2d(x, 3, 1, x.dim() - 3), conv=conv())


def test_values_without_a_batch() -> None:
    pool = nn.AvgPool2d(3, 1, 1)
    assert is_merged(lambda m, x: m.pool(x) + m.conv(x), X[0], pool=pool, conv=conv())


def test_one_dimension() -> None:
    layers = {"pool": nn.AvgPool1d(3, 1, 1), "conv": nn.Conv1d(4, 4, 3, padding=1)}
    assert is_merged(lambda m, x: m.pool(x) + m.conv(x), noise(2, 4, 9), **layers)


def test_pools_alone_and_with_hooks_stay() -> None:
    assert not is_merged(lambda m, x: m.pool(x) + x, pool=nn.AvgPool2d(3, 1, 1))
    assert not is_merged(
        lambda m, x: m.pool(x) + m.norm(x), pool=nn.AvgPool2d(3, 1, 1), norm=nn.BatchNorm2d(4)
    )
    pool = nn.AvgPool2d(3, 1, 1)
    pool.register_forward_hook(lambda _m, _a, out: out * 2)
    assert not beside(pool)


def test_a_pool_that_is_read_twice_stays() -> None:
    layers = {"pool": nn.AvgPool2d(3, 1, 1), "conv": conv()}
    assert not is_merged(lambda m, x: (y := m.pool(x)) + m.conv(x) + y.sigmoid(), X, **layers)
