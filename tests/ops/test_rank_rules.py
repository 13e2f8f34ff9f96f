"""What single nodes say about ranks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx

from bnfuse.graph.guards import check_rank
from bnfuse.ops import Kind
from bnfuse.ops.calls import Call
from bnfuse.ops.rank_rules import asserted, axes_added, change_by_mean, count_of, shaped_like

GRAPH = fx.Graph()
NODE = GRAPH.placeholder("x")


def test_counts() -> None:
    assert count_of((2, NODE)) == 2
    assert count_of((2,)) == 1
    assert count_of((NODE,)) is None  # it may be a whole shape
    assert count_of((torch.float32,)) is None
    assert count_of(NODE) is None


def test_the_value_whose_shape_is_given() -> None:
    def like(**options: Any) -> fx.Node | None:
        return shaped_like(Call(Kind.RESHAPE, NODE, "", NODE, (NODE,), {}, options, False, ""))

    shape, rank = (GRAPH.call_function(getattr, (NODE, name)) for name in ("shape", "ndim"))
    sizes, size = GRAPH.call_method("size", (NODE,)), GRAPH.call_method("size", (NODE, 1))
    assert all(like(shape=given) is NODE for given in (shape, (shape,), sizes, [sizes]))
    assert like(like=NODE) is NODE
    assert not any(like(shape=g) for g in (NODE, (NODE,), rank, size, (shape, 2), 3, None))
    assert like(like=3) is like(start_dim=1) is None


@pytest.mark.parametrize(
    ("dim", "keepdim", "change"),
    [(1, True, 0), (1, False, -1), ((1, 2), False, -2), ((), False, None), (None, False, None)],
)
def test_means(dim: Any, keepdim: bool, change: int | None) -> None:
    options = {"dim": dim, "keepdim": keepdim}
    call = Call(Kind.MEAN, NODE, "", NODE, (NODE,), {}, options, False, "")
    assert change_by_mean(call) == change


def test_added_axes() -> None:
    def added(**options: Any) -> int | None:
        return axes_added(Call(Kind.RESHAPE, NODE, "", NODE, (NODE,), {}, options, False, ""))

    assert added(new_dim=1) == 1
    assert added(split_dim=1, sizes=(2, 3, -1)) == 2
    assert added(split_dim=1, sizes=NODE) is None
    assert added(old_dim=1) is None


def test_assertions() -> None:
    assert asserted(GRAPH.call_function(check_rank, (NODE, 4))) == [(NODE, 4)]
    assert asserted(GRAPH.call_function(check_rank, (NODE, (3, 4)))) == []
    assert asserted(NODE) == []
