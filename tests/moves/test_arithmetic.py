"""An affine moved through sums, products and signs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from tests.moves.support import Model, above, below, checked, folded, image, operations, unshifted
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

UP: dict[str, Callable[[Any, Tensor], Any]] = {
    "sum-of-two": lambda m, x: m.norm(m.a(x) + m.b(x * x)),
    "sum-in-place": lambda m, x: m.norm(m.a(x).add_(m.b(x * x))),
    "difference": lambda m, x: m.norm(m.a(x) - m.b(x * x)),
    "broadcast-arm": lambda m, x: m.norm(m.a(x) + m.b(x.mean((2, 3), keepdim=True))),
    "plus-number": lambda m, x: m.norm(m.a(x) + 2),
    "number-minus": lambda m, x: m.norm(3 - m.a(x)),
    "number-times": lambda m, x: m.norm(torch.mul(2, m.a(x))),
    "negative-number": lambda m, x: m.norm(m.a(x) * -0.5),
    "over-number": lambda m, x: m.norm(m.a(x) / 4),
    "plus-vector": lambda m, x: m.norm(m.a(x) + m.c),
    "vector-minus": lambda m, x: m.norm(m.c - m.a(x)),
    "times-vector": lambda m, x: m.norm(m.c * m.a(x)),
    "over-vector": lambda m, x: m.norm(m.a(x) / m.c),
    "negation": lambda m, x: m.norm(-m.a(x)),
    "number-minus-by-rsub": lambda m, x: m.norm(torch.rsub(m.a(x), 3)),
    "vector-minus-by-rsub": lambda m, x: m.norm(torch.rsub(m.a(x), m.c)),
    "difference-by-rsub": lambda m, x: m.norm(torch.rsub(m.a(x), m.b(x * x))),
}
NOT_UP: dict[str, Callable[[Any, Tensor], Any]] = {
    "one-arm-takes-no-scale": lambda m, x: m.norm(m.a(x) + m.b(x).relu()),
    "product-of-two-takes-no-shift": lambda m, x: m.norm(m.a(x) * m.b(x)),
    "quotient-of-two-takes-no-shift": lambda m, x: m.norm(m.a(x) / (m.b(x) * m.b(x) + 1)),
    "one-arm-has-another-reader": lambda m, x: (y := m.b(x).sigmoid()) + m.norm(m.a(x) + y),
    "one-arm-is-an-input": lambda m, x: m.norm(m.a(x) + x[:, :1]),
    "number-over": lambda m, x: m.norm(2 / (m.a(x) * m.a(x) + 1)),
    "rounded": lambda m, x: m.norm(torch.div(m.a(x), 0.1, rounding_mode="floor")),
    "alpha": lambda m, x: m.norm(torch.add(m.a(x), m.b(x * x), alpha=2)),
    "rsub-with-alpha": lambda m, x: m.norm(torch.rsub(m.a(x), 3, alpha=2)),
    "rsub-by-name": lambda m, x: m.norm(torch.rsub(input=m.a(x), other=3)),
    "bool": lambda m, x: m.norm(m.a(x) * True),
}
DOWN: dict[str, Callable[[Any, Tensor], Any]] = {
    "plus-number": lambda m, x: m.head(m.norm(x) + 2),
    "number-minus": lambda m, x: m.head(3 - m.norm(x)),
    "number-times": lambda m, x: m.head(-2 * m.norm(x)),
    "times-0": lambda m, x: m.head(m.norm(x) * 0),
    "plus-vector": lambda m, x: m.head(m.norm(x) + m.c),
    "vector-minus": lambda m, x: m.head(m.c - m.norm(x)),
    "times-vector": lambda m, x: m.head(m.norm(x) * m.c),
    "negation": lambda m, x: m.head(-m.norm(x)),
}
NOT_DOWN: dict[str, Callable[[Any, Tensor], Any]] = {
    "sum-with-an-arm-of-another-scale": lambda m, x: m.head(m.norm(x) + x.sigmoid()),
    "twice": lambda m, x: m.head((y := m.norm(x)) + y),
    "square": lambda m, x: m.head((y := m.norm(x)) * y),
    "product-takes-no-shift": lambda m, x: m.head(m.norm(x) * x),
    "divisor": lambda m, x: m.head(x / m.norm(x)),
}


def up(run: Callable[[Any, Tensor], Any]) -> int:
    return folded(above(run), image())


@pytest.mark.parametrize("name", UP)
def test_goes_up(name: str) -> None:
    assert up(UP[name]) == 1


@pytest.mark.parametrize("name", NOT_UP)
def test_stays_behind(name: str) -> None:
    assert up(NOT_UP[name]) == 0


@pytest.mark.parametrize("name", DOWN)
def test_goes_down(name: str) -> None:
    assert folded(below(DOWN[name]), image(4)) == 1


@pytest.mark.parametrize("name", NOT_DOWN)
def test_stays_before(name: str) -> None:
    assert folded(below(NOT_DOWN[name]), image(4)) == 0


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.norm(x.sigmoid()) * x,
        lambda m, x: x * m.norm(x.sigmoid()),
        lambda m, x: m.norm(x.sigmoid()) / (x * x + 1),
    ],
    ids=["left", "right", "quotient"],
)
def test_a_scale_goes_down_through_a_product(run: Callable[[Any, Tensor], Any]) -> None:
    model = unshifted(below(lambda m, x: m.head(run(m, x))))
    assert folded(model, image(4)) == 1


WHOLE: dict[str, Callable[[Any, Tensor], Any]] = {
    "number-behind-vector": lambda m, x: (m.a(x) + m.c) * 2,
    "vector-behind-number": lambda m, x: (m.a(x) * 2) + m.c,
    "three": lambda m, x: (2 * (m.a(x) * m.c) - m.c) / 3,
    "rsub": lambda m, x: torch.rsub(m.a(x) * m.c, 1),
}


@pytest.mark.parametrize("name", WHOLE)
def test_constants_behind_each_other_fold_whole(name: str) -> None:
    fused, _ = checked(above(WHOLE[name]), image())
    assert {*operations(fused)} <= {"a", "assume_rank"}


def test_a_shift_goes_down_through_a_sum() -> None:
    model = ready(Model(lambda m, x: m.head(x - (x.sigmoid().relu() + 3)), head=nn.Conv2d(3, 2, 1)))
    fused, _ = checked(model, image())
    assert operations(fused)[-2:] == ["sub", "head"]


def test_a_scale_goes_to_one_factor() -> None:
    model = above(lambda m, x: (m.a(x) * m.b(x)) * 0.5 + m.norm(m.a(x)))
    fused, report = checked(model, image())
    assert len(report.folded) == 1
    assert operations(fused).count("mul") == 1


@pytest.mark.parametrize("divide", [True, False])
def test_a_number_asks_for_no_rank(divide: bool) -> None:
    """The coefficients of a number have no axes, and a guard for 0 dimensions refused all calls."""
    model = above(
        lambda m, x: (m.a(x) / m.b(x) if divide else m.a(x) * m.b(x)) * 0.5 + m.norm(m.b(x))
    )
    assert "assume_rank" not in operations(checked(model, image())[0])[:-4]


def test_a_scale_stays_out_of_memory_that_is_read_under_another_name() -> None:
    """``b.mul_(a)`` is what readers of ``b`` see: a scale in ``a`` would show there."""

    def run(m: Any, x: Tensor) -> Any:
        product = m.b(m.norm(x)).mul_(m.a(x))
        return product * m.c

    def returning_both(m: Any, x: Tensor) -> Any:
        value = m.b(x)
        return value.mul_(m.a(x)) * m.c, value

    layers: dict[str, Any] = {
        "a": nn.Conv2d(3, 4, 1),
        "b": nn.Conv2d(3, 4, 1),
        "c": torch.zeros(4, 1, 1),
    }
    norm = nn.BatchNorm2d(3)
    fused, _ = checked(ready(Model(run, norm=norm, **layers)), image())
    assert "mul" not in operations(fused)
    fused, _ = checked(ready(Model(returning_both, **layers)), image())
    assert "mul" in operations(fused)


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_a_constant_that_grows_the_value_stays(shape: tuple[int, ...]) -> None:
    """``(n, 1, h, w) * (4, 1, 1)`` has 4 channels; the layer behind would be given one."""
    model = Model(
        lambda m, x: m.head(m.a(x).sigmoid() * m.c),
        a=nn.Conv2d(3, 1, 1),
        c=torch.zeros(shape),
        head=nn.Conv2d(4, 5, 1),
    )
    assert "mul" in operations(checked(ready(model), image())[0])


def test_a_constant_on_the_last_axis_asks_for_no_rank() -> None:
    model = ready(Model(lambda m, x: x + m.a(x) * m.c, a=nn.Linear(6, 6), c=torch.zeros(6)))
    for shape in [(2, 6), (2, 5, 6), (2, 3, 5, 6)]:
        fused, _ = checked(model, noise(*shape))
        assert operations(fused) == ["a", "add"]


def test_a_constant_that_the_forward_writes_stays() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.a(x) * m.c
        m.c.add_(1)
        return y

    model = ready(Model(run, a=nn.Conv2d(3, 4, 1), c=torch.zeros(4, 1, 1)))
    model.c.requires_grad_(False)
    kept = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fused = bnfuse.optimize(model)
    model.load_state_dict(kept)
    assert "mul" in operations(fused)
