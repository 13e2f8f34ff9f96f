"""Sums that write into a value that is read under another name stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from tests.moves.support import Model, checked, image, operations
from tests.support import noise, ready

if TYPE_CHECKING:
    from torch import Tensor


def branches(m: Any, x: Tensor) -> Tensor:
    return m.a(x) + m.b(x)


def beside_another(m: Any, x: Tensor) -> Any:
    """The sum into ``y`` has no reader of its own, and is one nevertheless."""
    y = x.sigmoid()
    y.add_(x.tanh())
    return branches(m, x), y


def into_what_is_returned(m: Any, x: Tensor) -> Any:
    y = x.sigmoid()
    return y.add_(m.a(x)).add_(m.b(x)), y


def into_a_view(m: Any, x: Tensor) -> Any:
    y = x.sigmoid()
    return y.view(2, 4, 6, 6).add_(m.a(x)).add_(m.b(x)), y


def into_a_fresh_value(m: Any, x: Tensor) -> Any:
    y = m.a(x)
    y += m.b(x)
    y += x
    return y


@pytest.mark.parametrize(
    ("run", "merges"),
    [(beside_another, True), (into_what_is_returned, False), (into_a_view, False),
     (into_a_fresh_value, True)],
)  # fmt: skip
def test_sums_in_place(run: Any, merges: bool) -> None:
    layers = {"a": nn.Conv2d(4, 4, 3, padding=1), "b": nn.Conv2d(4, 4, 1)}
    fused, _ = checked(ready(Model(run, **layers)), image(4))
    assert ("b" not in operations(fused)) is merges


def halved_through_a_copy(m: Any, x: Tensor) -> Any:
    """The sum is laid out as ``x``: its ``flatten`` may be a copy, which the write misses."""
    y = x.relu() + m.a(x.relu())
    y.flatten(1).mul_(0.5)
    return y.tanh()


def halved_behind_a_norm(m: Any, x: Tensor) -> Any:
    z = m.norm(x.relu())
    y = z + m.a(z)
    y.flatten(1).mul_(0.5)
    return y.tanh()


def seen_as_rows(m: Any, x: Tensor) -> Any:
    y = x.relu()
    return (y + m.a(y)).permute(0, 2, 3, 4, 1).view(-1, 4) * 2


def in_another_order(m: Any, x: Tensor) -> Any:
    """Here the sum is laid out as the convolution's result, and so is the merged one's."""
    y = m.norm(x.relu())
    y = m.a(y) + y
    y.flatten(1).mul_(0.5)
    return y.tanh()


@pytest.mark.parametrize("last", [True, False], ids="channels-last={}".format)
@pytest.mark.parametrize(
    ("run", "is_merged"),
    [
        (halved_through_a_copy, False),
        (halved_behind_a_norm, False),
        (seen_as_rows, False),
        (in_another_order, True),
    ],
)
def test_a_sum_is_laid_out_as_its_first_term(run: Any, is_merged: bool, last: bool) -> None:
    """In float64 a convolution over three axes is contiguous whatever it is given."""
    model = ready(Model(run, a=nn.Conv3d(4, 4, 1), norm=nn.BatchNorm3d(4)))
    x = noise(2, 4, 3, 4, 5)
    x = x.to(memory_format=torch.channels_last_3d) if last else x
    if run is seen_as_rows and not last:
        return  # a view that contiguous values refuse
    fused, _ = checked(model, x)
    assert ("add" not in operations(fused)) == is_merged
