"""The call sites that are an affine, and what is taken for granted about them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.moves import origin_of
from tests.moves.support import Model, checked, folded, image, operations
from tests.support import noise, program_of, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

CALLS: dict[str, tuple[Callable[[Any, Tensor], Any], bool]] = {
    "norm": (lambda m, x: m.norm(x), True),
    "number": (lambda m, x: x * 2, True),
    "vector": (lambda m, x: x + m.c, True),
    "vector-first": (lambda m, x: torch.sub(m.c, x), True),
    "two-values": (lambda m, x: x * x, False),
    "two-constants": (lambda m, x: (m.c * m.c) @ x, False),
    "zero-divisor": (lambda m, x: x / 0, False),
    "number-over": (lambda m, x: 2 / x, False),
    "complex": (lambda m, x: x * 2j, False),
    "bool": (lambda m, x: x * True, False),
    "alpha": (lambda m, x: torch.add(x, m.c, alpha=2), False),
    "activation": (lambda m, x: x.relu(), False),
}


@pytest.mark.parametrize("name", CALLS)
def test_which_calls_are_affine(name: str) -> None:
    run, is_one = CALLS[name]
    model = ready(Model(run, norm=nn.BatchNorm2d(4), c=torch.zeros(4, 1, 1)))
    program = program_of(model)
    found = [origin_of(program, node) for node in program.graph.nodes]
    assert any(found) is is_one


def test_written_between() -> None:
    """Once the batch norm is gone its readers read its input, which must be what it was."""

    def written(m: Any, x: Tensor) -> Tensor:
        y = m.norm(x)
        x.add_(1)
        return m.head(y)

    def through_a_view(m: Any, x: Tensor) -> Tensor:
        view = x.view(-1)
        y = m.norm(x)
        view.mul_(2)
        return m.head(y)

    def afterwards(m: Any, x: Tensor) -> tuple[Tensor, Tensor]:
        y = m.norm(x)
        return m.head(y), y[:, 1].relu_()

    for run in (written, through_a_view, afterwards):
        model = ready(Model(run, norm=nn.BatchNorm2d(4), head=nn.Conv2d(4, 2, 1)))
        assert folded(model, image(4)) == 0


def test_a_rank_that_nothing_proves_is_guarded() -> None:
    model = ready(
        Model(lambda m, x: m.head(m.norm(x)), norm=nn.BatchNorm1d(5), head=nn.Linear(5, 3))
    )
    fused = bnfuse.optimize(model)
    assert relative_error(fused(noise(4, 5)), model(noise(4, 5))) < 1e-12
    with pytest.raises(bnfuse.AssumptionError, match="2 dimensions and this call has 3"):
        fused(noise(4, 5, 5))


@pytest.mark.parametrize(("rank", "count"), [(2, 1), (3, 0)])
def test_an_example_tells_the_rank(rank: int, count: int) -> None:
    """A linear layer with as many features as the batch norm has channels is on another axis."""
    model = ready(
        Model(lambda m, x: m.head(m.norm(x)), norm=nn.BatchNorm1d(5), head=nn.Linear(5, 3))
    )
    x = noise(*[5] * rank)
    fused = bnfuse.optimize(model, (x,))
    assert len(bnfuse.report(fused).folded) == count
    assert relative_error(fused(x), model(x)) < 1e-12


@pytest.mark.parametrize("rank", [2, 3])
def test_three_axes_go_into_a_convolution(rank: int) -> None:
    model = ready(
        Model(lambda m, x: m.head(m.norm(x)), norm=nn.BatchNorm1d(5), head=nn.Conv1d(5, 3, 1))
    )
    if rank == 3:
        assert folded(model, noise(4, 5, 6)) == 1
    else:
        with pytest.raises(bnfuse.AssumptionError):
            bnfuse.optimize(model)(noise(5, 5))


@pytest.mark.parametrize("shape", [(5,), (1, 5), (1, 1, 5)])
def test_arithmetic_alone_puts_no_guard_behind_a_linear_layer(shape: tuple[int, ...]) -> None:
    """A scale behind a linear layer takes values of any rank, as the layer itself does."""
    model = ready(Model(lambda m, x: m.a(x) * m.c, a=nn.Linear(5, 5), c=torch.zeros(shape)))
    for rank in (2, 3, 4):
        fused, _ = checked(model, noise(*[5] * rank))
        assert "assume_rank" not in operations(fused)


@pytest.mark.parametrize(
    ("run", "count"),
    [
        (lambda m, x: m.norm(m.a(x) + m.a(x * x)), 1),
        (lambda m, x: m.head(m.norm(x).mean([2, 3])), 1),
        (lambda m, x: m.norm((y := m.a(x).chunk(1, 1))[0]) + y[0].sigmoid(), 0),
        (lambda m, x: m.norm(m.a(x) + m.same(x)), 1),
    ],
    ids=["sum", "mean", "piece-twice", "merged-with-padding-by-name"],
)  # fmt: skip
def test_exported_programs(run: Callable[[Any, Tensor], Any], count: int) -> None:
    model = ready(
        Model(
            run,
            a=nn.Conv2d(4, 4, 1),
            same=nn.Conv2d(4, 4, 3, padding="same"),
            norm=nn.BatchNorm2d(4),
            head=nn.Linear(4, 2),
        )
    )
    x = image(4)
    fused = bnfuse.optimize(torch.export.export(model, (x,)))
    assert len(bnfuse.report(fused).folded) == count
    assert relative_error(fused(x), model(x)) < 1e-12
