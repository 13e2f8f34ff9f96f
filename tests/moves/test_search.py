"""The search itself: readers, ways, and how much it looks at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bnfuse.moves.search import MOST_STEPS
from bnfuse.ops import read_call
from tests.moves.support import Model, above, below, checked, folded, image, operations, reasons
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def chain(length: int, is_up: bool) -> Model:
    """Return a batch norm with so many sums between it and a convolution."""

    def run(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x) if is_up else m.norm(x)
        for _ in range(length):
            y = -y
        return m.norm(y) if is_up else m.conv(y)

    return ready(Model(run, conv=nn.Conv2d(4, 4, 1), norm=nn.BatchNorm2d(4)))


@pytest.mark.parametrize("is_up", [True, False], ids=["up", "down"])
def test_a_chain_that_is_too_long_stays(is_up: bool) -> None:
    assert folded(chain(MOST_STEPS - 1, is_up), image(4)) == 1
    assert folded(chain(MOST_STEPS, is_up), image(4)) == 0


def visits(monkeypatch: pytest.MonkeyPatch, norms: int) -> int:
    """Return how many calls a search reads for so many batch norms, each behind a long chain."""

    def run(m: Any, x: Tensor) -> Tensor:
        y = x
        for norm in m.norms:
            for _ in range(MOST_STEPS + 6):
                y = -y
            y = norm(y).sigmoid()
        return y

    layers = nn.ModuleList(nn.BatchNorm2d(4) for _ in range(norms))
    count = 0

    def counting(*args: Any) -> Any:
        nonlocal count
        count += 1
        return read_call(*args)

    with monkeypatch.context() as patch:
        patch.setattr("bnfuse.moves.search.read_call", counting)
        assert folded(ready(Model(run, norms=layers)), image(4)) == 0
    return count


def test_the_cost_grows_with_the_number_of_norms_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    few, many = visits(monkeypatch, 2), visits(monkeypatch, 6)
    assert many == 3 * few
    assert few <= 2 * 2 * 2 * (MOST_STEPS + 2)


def test_arms_of_arms_do_not_multiply(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each sum offers two ways for the shift; trying all of them would take 2 to the 40."""

    def run(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x).sigmoid()
        for _ in range(40):
            y = y + m.conv(x)
        return m.norm(y)

    model = ready(Model(run, conv=nn.Conv2d(4, 4, 1), norm=nn.BatchNorm2d(4)))
    assert len(checked(model, image(4), bound=1e-11)[1].kept) == 1


def test_a_sum_of_thousands_of_terms() -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.conv(x)
        for _ in range(1200):
            y = y + x.sigmoid()
        return m.norm(y)

    model = ready(Model(run, conv=nn.Conv2d(4, 4, 1), norm=nn.BatchNorm2d(4)))
    assert folded(model, noise(1, 4, 2, 2)) == 0


ABSORBED: dict[str, Callable[[Any, Tensor], Any]] = {
    "two-readers": lambda m, y: m.one(y) + m.two(y),
    "one-layer-twice": lambda m, y: m.one(y) * m.one(y * 2),
    "layers-behind-a-copy": lambda m, y: m.one(z := y.clone()) + m.two(z),
    "a-reader-of-the-shape": lambda m, y: m.one(y).view(y.shape[0], -1),
}
STAYS: dict[str, Callable[[Any, Tensor], Any]] = {
    "output": lambda m, y: (m.one(y), y),
    "reader-without-a-weight": lambda m, y: m.one(y) + m.two(y.sigmoid()),
    "in-place-reader": lambda m, y: m.one(y) + m.two(y.relu_()),
    "item-written": lambda m, y: (m.one(y), y[:, 0].mul_(2)),
    "as-a-weight": lambda m, y: torch.conv2d(m.other, y),
    "unknown-reader": lambda m, y: m.one(y.cumsum(1)),
}


@pytest.mark.parametrize("name", ABSORBED)
def test_all_readers_absorb(name: str) -> None:
    layers = {"one": nn.Conv2d(4, 4, 1), "two": nn.Conv2d(4, 4, 1)}
    model = Model(lambda m, x: ABSORBED[name](m, m.norm(x)), norm=nn.BatchNorm2d(4), **layers)
    assert folded(ready(model), image(4)) == 1


@pytest.mark.parametrize("name", STAYS)
def test_one_reader_that_does_not_absorb_keeps_it(name: str) -> None:
    layers = {"one": nn.Conv2d(4, 4, 1), "two": nn.Conv2d(4, 4, 1)}
    model = Model(
        lambda m, x: STAYS[name](m, m.norm(x)),
        norm=nn.BatchNorm2d(4),
        other=torch.zeros(4, 4, 6, 6),
        **layers,
    )
    assert reasons(ready(model), noise(4, 4, 6, 6)) == ["no-linear-producer"]


@pytest.mark.parametrize("kind", ["reader", "producer"])
def test_hooks_on_the_way(kind: str) -> None:
    model = (
        above(lambda m, x: m.norm(m.relu(m.a(x))))
        if kind == "producer"
        else below(lambda m, x: m.head(m.relu(m.norm(x))))
    )
    model.relu = nn.Identity()
    model.relu.register_forward_hook(lambda _m, _a, out: out + 1)
    assert folded(model, image(3 if kind == "producer" else 4)) == 0


def test_a_second_reader_on_the_way_up() -> None:
    model = above(lambda m, x: m.norm((y := m.a(x).flip(2)).mean(2, keepdim=True)) + y)
    assert reasons(model, image()) == ["several-readers"]


def test_the_first_way_that_leads_to_an_end_is_taken() -> None:
    """The shift goes to the second arm where the first one takes none."""
    model = above(lambda m, x: m.norm(m.a(x) * 2 + m.b(x * x)))
    fused, report = checked(model, image())
    assert len(report.folded) == 1
    assert operations(fused).count("add") == 1
    model = above(lambda m, x: m.norm((m.a(x) * m.b(x)) + m.b(x * x)))
    assert folded(model, image()) == 1
