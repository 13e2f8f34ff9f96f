"""The terms of a sum: their signs, their order, and which sums may be taken apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bnfuse.ops.sums import Sum, sum_at
from tests.passes.branches import Block
from tests.support import program_of, ready

if TYPE_CHECKING:
    from collections.abc import Callable


def sums(run: Callable[[Any, torch.Tensor], object]) -> list[Sum]:
    program = program_of(ready(Block(run, a=nn.Conv2d(2, 2, 1), b=nn.Conv2d(2, 2, 1))))
    found = [sum_at(program, node) for node in program.graph.nodes]
    return [one for one in found if one is not None]


def signs(run: Callable[[Any, torch.Tensor], object]) -> list[str]:
    """Return the terms of the only sum, each with its sign; a colon for one added in place."""
    (one,) = sums(run)
    return [
        f"{'-' if term.is_negative else '+'}{':' if term.is_in_place else ''}{term.value}"
        for term in one.terms
    ]


def test_signs_and_order() -> None:
    assert signs(lambda m, x: m.a(x) + x) == ["+a", "+x"]
    assert signs(lambda m, x: x - (m.a(x) - (m.b(x) - x))) == ["+x", "-a", "+b", "-x"]


def in_place(m: Any, x: torch.Tensor) -> torch.Tensor:
    y = m.a(x)
    y -= m.b(x) - x
    return y + x


def test_terms_added_in_place() -> None:
    assert signs(in_place) == ["+a", "-:b", "+:x", "+x"]


def test_a_sum_that_is_read_twice_is_a_term() -> None:
    found = sums(lambda m, x: (y := m.a(x) + x) + y)
    assert [len(one.terms) for one in found] == [2, 2]
    assert [term.is_own for term in found[1].terms] == [False, False]


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: x + 1,
        lambda m, x: x + m.a.weight,
        lambda m, x: torch.add(x, x, alpha=2),
        lambda m, x: x.add_(m.a(x)),
        lambda m, x: x.view(-1).add_(m.a(x).view(-1)),
    ],
)
def test_no_sum_of_values_or_one_that_writes_what_others_see(run: Any) -> None:
    assert sums(run) == []
