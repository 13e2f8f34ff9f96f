"""The rules of single operations, at their edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx

from bnfuse.ops import Kind
from bnfuse.ops.calls import Call
from bnfuse.ops.shape_rules import (
    SHAPE_RULES,
    Unknown,
    axis_of,
    broadcast_size,
    permutation_of,
    product_of,
    spatial_axes,
    split_shapes,
    unknown_shape,
)

NODE = fx.Graph().placeholder("x")
A, B = unknown_shape(NODE, 2)


def call(kind: Kind, spelling: str = "", **options: Any) -> Call:
    return Call(kind, NODE, "layer", NODE, (NODE,), {}, options, False, spelling)


@pytest.mark.parametrize(
    ("given", "rank", "axis"), [(0, 1, 0), (-1, 3, 2), (3, 3, None), (-4, 3, None), (0, 0, None)]
)
def test_axis(given: int, rank: int, axis: int | None) -> None:
    assert axis_of(given, rank) == axis
    assert axis_of(NODE, rank) is None
    assert axis_of(True, rank) is None


def test_product() -> None:
    assert product_of((2, 3)) == 6
    assert product_of(()) == 1
    assert product_of((1, A)) == A
    assert product_of((2, A)) is None
    assert product_of((A, B)) is None


def test_broadcast() -> None:
    assert broadcast_size((1, 1), A) == 1
    assert broadcast_size((A, 1), B) == A
    assert broadcast_size((A, 4), B) == 4
    assert broadcast_size((A, A), B) == A
    assert broadcast_size((A, Unknown(NODE, 2)), B) == B
    assert broadcast_size((1, 0), A) == 0


@pytest.mark.parametrize("size", [1, 5, 6, 7])
@pytest.mark.parametrize(
    "options", [{"chunks": n} for n in (1, 2, 4)] + [{"split_size": n} for n in (1, 4, 9)]
)
def test_split_as_pytorch_does(size: int, options: dict[str, int]) -> None:
    value = torch.zeros(2, size)
    count = next(iter(options.values()))
    pieces = torch.chunk(value, count, 1) if "chunks" in options else torch.split(value, count, 1)
    given: dict[str, Any] = {"chunks": None, "split_size": None, "dim": -1, **options}
    asked = call(Kind.SPLIT, **given)
    assert split_shapes(asked, (A, size)) == tuple((A, piece.shape[1]) for piece in pieces)


@pytest.mark.parametrize(
    ("options", "given"),
    [
        ({"chunks": 2}, (A, B)),
        ({"chunks": NODE}, (A, 4)),
        ({"split_size": 0}, (A, 4)),
        ({"split_size": [1, NODE]}, (A, 4)),
        ({"chunks": 2, "dim": NODE}, (A, 4)),
        ({"chunks": 2, "dim": 5}, (A, 4)),
    ],
)
def test_split_of_unknown_sizes(options: dict[str, Any], given: Any) -> None:
    asked = call(Kind.SPLIT, **{"chunks": None, "split_size": None, "dim": 1, **options})
    assert split_shapes(asked, given) is None


def test_permutation() -> None:
    def order(rank: int, dims: Any = None, dim0: Any = None, dim1: Any = None) -> Any:
        return permutation_of(call(Kind.PERMUTATION, dims=dims, dim0=dim0, dim1=dim1), rank)

    assert order(3, (0, -1, 1)) == (0, 2, 1)
    assert order(4, (0, -1, 1)) is None
    assert order(1, (NODE,)) is None
    assert order(3, dim0=0, dim1=-1) == (2, 1, 0)
    assert order(3, dim0=0, dim1=3) is None
    assert order(3, dim0=NODE, dim1=0) is None


def test_pools_of_too_few_axes_prove_nothing() -> None:
    rule = SHAPE_RULES[Kind.ADAPTIVE_AVERAGE]
    assert spatial_axes(call(Kind.MAX_POOL, "MaxPool3d")) == 3
    assert rule(call(Kind.ADAPTIVE_AVERAGE, "AdaptiveAvgPool2d", output_size=1), (A,)) is None
    assert rule(call(Kind.ADAPTIVE_AVERAGE, "AdaptiveAvgPool2d", output_size=(1,)), (A, B)) is None
    assert rule(call(Kind.ADAPTIVE_AVERAGE, "other", output_size=1), (A, B)) is None


def test_layers_whose_weight_is_no_tensor_prove_nothing() -> None:
    for kind in (Kind.CONVOLUTION, Kind.LINEAR):
        assert SHAPE_RULES[kind](call(kind), (A, B)) is None
