"""Resizing, beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper

from bnfuse.errors import RequestError
from bnfuse.importing.resizing import OPERATORS
from tests.importing.support import (
    Case,
    assert_same,
    check,
    computed,
    converted,
    ints,
    model,
    numbers,
    run,
    value,
)

if TYPE_CHECKING:
    from pathlib import Path

LINE, IMAGE, VOLUME = numbers(2, 3, 5), numbers(2, 3, 5, 6), numbers(2, 3, 3, 4, 5)
FLOOR = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
EXACT = {"mode": "nearest", "nearest_mode": "round_prefer_ceil"}
LINEAR, CUBIC = {"mode": "linear"}, {"mode": "cubic"}
CORNERS = {"coordinate_transformation_mode": "align_corners"}


def scaled(x: Any, *scales: float, **attributes: Any) -> Case:
    """Return a resize by scales."""
    return Case("Resize", [x], [None, np.array(scales, dtype=np.float32)], attributes)


def sized(x: Any, *sizes: int, **attributes: Any) -> Case:
    """Return a resize to sizes."""
    return Case("Resize", [x], [None, None, ints(*sizes)], attributes, open_batch=False)


CASES = (
    scaled(IMAGE, 1, 1, 2, 2, **FLOOR),
    scaled(IMAGE, 1, 1, 2, 1.5, **FLOOR),
    scaled(IMAGE, 1, 1, 2, 2, **EXACT),
    scaled(IMAGE, 1, 1, 2, 2, **LINEAR),
    scaled(IMAGE, 1, 1, 0.6, 0.7, **LINEAR),
    scaled(IMAGE, 1, 1, 2, 2, **LINEAR, coordinate_transformation_mode="pytorch_half_pixel"),
    scaled(LINE, 1, 1, 3, **LINEAR),
    scaled(VOLUME, 1, 1, 2, 2, 2, **LINEAR),
    sized(IMAGE, 2, 3, 7, 9, **LINEAR),
    sized(IMAGE, 2, 3, 7, 9, **LINEAR, **CORNERS),
    sized(IMAGE, 2, 3, 7, 9, **CUBIC),
    sized(IMAGE, 7, 9, **LINEAR, axes=[2, 3]),
    sized(IMAGE, 2, 3, 7, 9, **FLOOR),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_onnxruntime_does(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)


def test_sizes_of_another_value(tmp_path: Path) -> None:
    """A decoder resizes to the height and width of an earlier feature."""
    nodes = [
        helper.make_node("Shape", ["x"], ["small"], start=0, end=2),
        helper.make_node("Shape", ["like"], ["large"], start=2),
        helper.make_node("Concat", ["small", "large"], ["sizes"], axis=0),
        helper.make_node("Resize", ["x", "", "", "sizes"], ["y"], **LINEAR),
    ]
    inputs = [value("x", ["n", 3, "h", "w"]), value("like", ["n", 8, "H", "W"])]
    proto = model(nodes, inputs, ["y"])
    given = [IMAGE, numbers(2, 8, 9, 11)]
    assert_same(computed(converted(proto, tmp_path), given), run(proto, given))


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (scaled(IMAGE, 1, 1, 2, 2, mode="nearest"), "no mode nearest, half_pixel, round_prefer"),
        (sized(IMAGE, 2, 3, 3, 4, **LINEAR, antialias=1), "PyTorch smooths otherwise"),
        (scaled(IMAGE, 1, 2, 2, 2, **LINEAR), "it resizes batches or channels"),
        (scaled(VOLUME, 1, 1, 2, 2, 2, **CUBIC), "no mode cubic, half_pixel over 3 axes"),
        (
            scaled(IMAGE, 1, 1, 2, 2, **LINEAR, coordinate_transformation_mode="asymmetric"),
            "no mode linear, asymmetric",
        ),
        (
            sized(IMAGE, 7, 7, **LINEAR, axes=[2, 3], keep_aspect_ratio_policy="not_larger"),
            "it keeps the ratio of the sides",
        ),
    ],
    ids=str,
)
def test_refuses(case: Case, why: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=why):
        converted(case.proto(), tmp_path)
