"""The sizes an engine is built for."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.export import Dim

from bnfuse.errors import RequestError
from bnfuse.export.tensorrt_ranges import LARGEST_BATCH, Range, ranges_of


class Net(nn.Module):
    """A model with nested arguments."""

    def forward(self, x: Any, pair: Any = None, scale: float = 1.0) -> Any:
        return x


X, Y = torch.zeros(4, 3, 8, 8), torch.zeros(100, 5)


def ranges(shapes: Any, *args: Any, **kwargs: Any) -> Any:
    """Return the ranges for a call."""
    return ranges_of(Net(), (args, kwargs), shapes)


def test_first_axis_is_open_by_default() -> None:
    assert ranges(None, X) == ({0: Range(1, 4, LARGEST_BATCH)},)
    assert ranges(None, X, {"a": Y, "b": [torch.tensor(1.0)]}, scale=2.0) == (
        {0: Range(1, 4, 32)},
        {0: Range(1, 100, 100)},
        {},
    )


def test_bounds_are_those_of_the_dimensions() -> None:
    height, batch = Dim("height", min=4, max=16), Dim("batch", max=64)
    wanted = ({0: Range(1, 4, 64), 2: Range(4, 8, 16)},)
    assert ranges({"x": {0: batch, 2: height}}, X) == wanted
    assert ranges(({0: batch, 2: height, 3: None},), X) == wanted
    assert ranges({"x": (batch, None, height, None)}, X) == wanted
    assert ranges({"x": {0: batch, 2: height}}, x=X) == wanted


def test_batch_without_a_bound_gets_the_default() -> None:
    assert ranges({"x": {0: "batch"}}, X) == ({0: Range(1, 4, 32)},)
    assert ranges({"x": {0: Dim("batch", min=2)}}, X) == ({0: Range(2, 4, 32)},)
    assert ranges({"x": {0: Dim.DYNAMIC}}, X) == ({0: Range(1, 4, 32)},)


def test_nested_arguments() -> None:
    found = ranges({"x": None, "pair": [{0: Dim("b", max=7)}, {}]}, X, (X, Y))
    assert found == ({}, {0: Range(1, 4, 7)}, {})
    assert ranges({"x": {}, "pair": {"k": {0: Dim("b", max=7)}}}, X, {"k": X, "l": Y}) == (
        {},
        {0: Range(1, 4, 7)},
        {},
    )


def test_nothing_open() -> None:
    assert ranges({"x": {}}, X) == ranges((None,), X) == ({},)


@pytest.mark.parametrize(
    ("shapes", "wanted"),
    [
        (
            {"x": {2: "height"}},
            (
                "dynamic_shapes leaves axis 2 of x open without a bound, and an engine is built "
                "for a range of sizes: pass torch.export.Dim(name, min=..., max=...)."
            ),
        ),
        (
            {"x": {2: Dim("height", min=16, max=32)}},
            (
                "axis 2 of x is 8 in the example and 16 to 32 in dynamic_shapes: pass an example "
                "within the range."
            ),
        ),
        (
            {"x": {4: Dim("time", max=32)}},
            "dynamic_shapes opens axis 4 of x, which has 4 axes: name axes that it has.",
        ),
    ],
)
def test_ranges_that_cannot_be(shapes: Any, wanted: str) -> None:
    with pytest.raises(RequestError) as caught:
        ranges(shapes, X)
    assert str(caught.value) == wanted
