"""Arithmetic is left out only where the dtype stays what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from tests.moves.support import Model, checked, image, operations
from tests.support import ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def model_of(run: Callable[[Any, Tensor], Any]) -> Model:
    return ready(
        Model(
            run,
            a=nn.Conv2d(3, 4, 1),
            c=torch.zeros(4, 1, 1),
            norm=nn.BatchNorm2d(4),
            head=nn.Conv2d(4, 2, 1),
        )
    )


def test_integers_are_made_floating_by_arithmetic() -> None:
    """``image / 255``: without the quotient the layer would be given integers."""
    model = ready(Model(lambda m, x: m.head(x / 255), head=nn.Conv2d(3, 2, 1))).float()
    pixels = torch.arange(2 * 3 * 4 * 4, dtype=torch.uint8).reshape(2, 3, 4, 4)
    assert "truediv" in operations(checked(model, pixels)[0])


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.head(m.a(x).sigmoid() / 255),
        lambda m, x: m.head(m.norm(m.a(x)).sigmoid() / 255),
    ],
    ids=["convolution", "norm"],
)
def test_numbers_go_where_the_value_is_surely_floating(run: Callable[[Any, Tensor], Any]) -> None:
    assert "truediv" not in operations(checked(model_of(run), image())[0])


def test_a_cast_says_the_dtype() -> None:
    model = ready(Model(lambda m, x: m.head(x.double() / 255), head=nn.Conv2d(3, 2, 1)))
    assert "truediv" not in operations(checked(model, image())[0])


@pytest.mark.parametrize("has_norm", [True, False])
def test_a_tensor_of_float32_makes_float32_of_half(has_norm: bool) -> None:
    """Folded into the layer in half precision the result would be in half precision."""
    model = model_of(lambda m, x: (m.norm(m.a(x)) if has_norm else m.a(x)) * m.c).half()
    model.c.data = model.c.data.float()
    fused, _ = checked(model, image().half(), bound=1e-2)
    assert operations(fused)[-1] == "mul"


@pytest.mark.parametrize(
    ("low", "high"), [(torch.float16, torch.float32), (torch.float32, torch.float64)]
)
def test_a_tensor_that_widens_stays_before_a_wide_layer(
    low: torch.dtype, high: torch.dtype
) -> None:
    model = model_of(lambda m, x: m.head(m.a(x).sigmoid() * m.c)).to(low)
    model.c.data, model.head = model.c.data.to(high), model.head.to(high)
    fused, _ = checked(model, image().to(low), bound=1e-2)
    assert "mul" in operations(fused)


def test_a_batch_norm_returns_what_it_is_given() -> None:
    model = model_of(lambda m, x: m.head(m.norm(x))).half()
    model.norm.float()
    fused, report = checked(model, image(4).half(), bound=2e-2)
    assert len(report.folded) == 1
    assert operations(fused) == ["assume_rank", "head"] or operations(fused) == ["head"]
