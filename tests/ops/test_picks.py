"""Which elements are picked, against what PyTorch picks."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import fx

from bnfuse.graph.program import Constant
from bnfuse.ops import Kind
from bnfuse.ops.calls import Call
from bnfuse.ops.picks import PICKED_SHAPES, pair_of, slice_places

NODE = fx.Graph().placeholder("x")
NONE = {"start": None, "end": None, "step": None, "length": None, "dim": 0}


def call(kind: Kind, **options: Any) -> Call:
    return Call(kind, NODE, "layer", NODE, (NODE,), {}, options, False, "")


@pytest.mark.parametrize("start", [0, 1, -1, -4])
@pytest.mark.parametrize("length", [0, 1])
def test_narrow(start: int, length: int) -> None:
    found = slice_places(call(Kind.SLICE, **{**NONE, "start": start, "length": length}), 4)
    assert found is not None
    assert torch.equal(found, torch.arange(4).narrow(0, start, length))


@pytest.mark.parametrize(
    ("start", "end", "step"), [(None, None, 1), (1, 9, 2), (-3, -1, 1), (0, 9223372036854775807, 3)]
)
def test_slices(start: int | None, end: int | None, step: int) -> None:
    options = {**NONE, "start": start, "end": end, "step": step}
    found = slice_places(call(Kind.SLICE, **options), 7)
    assert found is not None
    assert torch.equal(found, torch.ops.aten.slice.Tensor(torch.arange(7), 0, start, end, step))


def test_what_the_graph_computes_is_not_known() -> None:
    assert slice_places(call(Kind.SLICE, **{**NONE, "start": NODE}), 4) is None
    computed = Call(Kind.SLICE, NODE, "", NODE, (NODE,), {"index": NODE}, {"dim": 0}, False, "")
    assert slice_places(computed, 4) is None


def test_an_index_may_have_no_axes() -> None:
    index = {"index": Constant("index", torch.tensor(2))}
    found = slice_places(
        Call(Kind.SLICE, NODE, "", NODE, (NODE,), {**index}, {"dim": 0}, False, ""), 4
    )
    assert found is not None
    assert found.tolist() == [2]


def test_pairs() -> None:
    assert pair_of(3) == (3, 3)
    assert pair_of([1, 2]) == (1, 2)
    assert pair_of((1, 2, 3)) is None
    assert pair_of(NODE) is None


def test_shapes_that_do_not_fit_prove_nothing() -> None:
    assert PICKED_SHAPES[Kind.REPEAT](call(Kind.REPEAT, repeats=(2,)), (2, 3)) is None
    assert PICKED_SHAPES[Kind.EXPAND](call(Kind.EXPAND, size=(2,)), (2, 3)) is None
    assert PICKED_SHAPES[Kind.UNFOLD](call(Kind.UNFOLD, kernel_size=2), (2, 3)) is None
    shuffle = call(Kind.PIXEL_SHUFFLE, upscale_factor=2)
    assert PICKED_SHAPES[Kind.PIXEL_SHUFFLE](shuffle, (2, 3)) is None
