"""Sums that write into a value that is read under another name stay as they are."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from torch import nn

from tests.moves.support import Model, checked, image, operations
from tests.support import ready

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
