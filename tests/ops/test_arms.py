"""The terms of a sum as branches over what they read."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bnfuse.ops.arms import Arm, arms_over, clusters_of
from bnfuse.ops.sums import sum_at
from tests.passes.branches import Block, conv
from tests.support import program_of, ready

if TYPE_CHECKING:
    from collections.abc import Callable


def clusters(
    run: Callable[[Any, torch.Tensor], object], **layers: nn.Module
) -> list[tuple[Arm, ...]]:
    program = program_of(ready(Block(run, **layers)))
    found = [sum_at(program, node) for node in program.graph.nodes]
    return [
        cluster
        for one in found
        if one is not None
        for cluster in clusters_of(program, arms_over(program, one))
    ]


def names(found: list[tuple[Arm, ...]]) -> list[list[str]]:
    return [[str(arm.term.value) for arm in cluster] for cluster in found]


def test_the_largest_convolution_comes_first() -> None:
    found = clusters(lambda m, x: m.a(x) + x + m.b(x), a=conv(1), b=conv(3))
    assert names(found) == [["b", "a", "x"]]


def test_two_clusters_over_one_value() -> None:
    found = clusters(
        lambda m, x: m.a(x) + m.b(x) + m.c(x) + x, a=conv(5, groups=4), b=conv(1), c=conv(1)
    )
    assert names(found) == [["a", "x"], ["b", "c"]]


def test_nothing_to_merge() -> None:
    assert clusters(lambda m, x: x + x + m.a(torch.relu(x)), a=conv()) == []


def test_an_arm_without_a_branch_has_none_with_a_sign() -> None:
    program = program_of(ready(Block(lambda m, x: m.a(x) + x, a=conv())))
    one = next(s for node in program.graph.nodes if (s := sum_at(program, node)))
    (arms,) = arms_over(program, one).values()
    with pytest.raises(LookupError, match="x is no branch"):
        _ = arms[1].signed


@pytest.mark.parametrize(
    ("norm", "guard"),
    [(nn.BatchNorm2d(4), None), (nn.InstanceNorm2d(4, track_running_stats=True), 4)],
)
def test_a_guard_where_the_rank_is_not_proven(norm: nn.Module, guard: int | None) -> None:
    ((_, arm),) = clusters(lambda m, x: m.a(x) + m.n(x), a=conv(), n=norm)
    assert arm.guard == (None if guard is None else (guard, "n"))
