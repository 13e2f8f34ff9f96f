"""Arithmetic is left out only where the dtype stays what it was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

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


CASTS: dict[str, Callable[[Any], Any]] = {
    "to": lambda y: y.to(torch.float64),
    "to-by-name": lambda y: y.to(dtype=torch.float64, copy=True),
    "double": lambda y: y.double(),
    "of-a-rectifier": lambda y: y.neg().double(),
    "aten": lambda y: torch.ops.aten.to.dtype(y, torch.float64),
}
REAL_CASTS: dict[str, Callable[[Any], Any]] = {
    "narrower": lambda y: y.float().double(),
    "of-another": lambda y: y.to(torch.float32).to(torch.float64),
    "to-a-device": lambda y: y.to("cpu"),
    "to-a-device-and-dtype": lambda y: y.to("cpu", torch.float64),
    "like-another": lambda y: y.to(y.sigmoid()),
}


@pytest.mark.parametrize("is_up", [True, False])
@pytest.mark.parametrize("name", [*CASTS, *REAL_CASTS])
def test_a_cast_to_the_same_dtype_is_passed(name: str, is_up: bool) -> None:
    cast = {**CASTS, **REAL_CASTS}[name]
    if is_up:
        model = model_of(lambda m, x: m.norm(cast(m.a(x))))
    else:
        model = model_of(lambda m, x: m.head(cast(m.a(x).sigmoid() * m.c)))
    fused, _ = checked(model, image(), bound=1e-12 if name in CASTS else 1e-6)
    assert (not {"norm", "mul"} & {*operations(fused)}) == (name in CASTS)


def test_a_value_of_unknown_dtype_is_cast() -> None:
    model = model_of(lambda m, x: m.head((x[:, :1] * m.c).double()))
    assert "mul" in operations(checked(model, image())[0])


WHOLE_NUMBERS: dict[str, Callable[[Any, Tensor], Any]] = {
    "places": lambda m, x: m.head(F.max_pool2d(m.a(x), 2, return_indices=True)[1] / 4),
    "bits": lambda m, x: m.head(m.a(x).view(torch.int32)[..., ::2] / 2**31),
    "sum": lambda m, x: m.head(m.a(x).sum(2, keepdim=True, dtype=torch.int64) / 4),
    "cumulative-sum": lambda m, x: m.head(m.a(x).cumsum(2, dtype=torch.int64) / 4),
}


@pytest.mark.parametrize("name", WHOLE_NUMBERS)
def test_what_is_made_of_floating_point_numbers_may_be_none(name: str) -> None:
    model = model_of(WHOLE_NUMBERS[name]).float()
    assert "truediv" in operations(checked(model, image().float(), bound=1e-5)[0])


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
