"""Pools, beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest

from bnfuse.errors import RequestError
from bnfuse.importing.windows import OPERATORS
from tests.importing.support import Case, check, converted, numbers

if TYPE_CHECKING:
    from pathlib import Path

LINE, IMAGE, VOLUME = numbers(2, 3, 9), numbers(2, 3, 9, 8), numbers(2, 3, 5, 6, 7)
SQUARE = {"kernel_shape": [3, 3]}
PADDED = {**SQUARE, "strides": [2, 2], "pads": [1, 1, 1, 1]}
UNEVEN = {**SQUARE, "strides": [2, 2], "pads": [0, 1, 1, 2]}


def pool(kind: str, x: Any, **attributes: Any) -> Case:
    """Return a pool."""
    return Case(kind, [x], attributes=attributes)


CASES = (
    *(pool(kind, IMAGE, **SQUARE) for kind in ("MaxPool", "AveragePool")),
    *(pool(kind, IMAGE, **PADDED) for kind in ("MaxPool", "AveragePool")),
    *(pool(kind, LINE, kernel_shape=[2], strides=[2]) for kind in ("MaxPool", "AveragePool")),
    *(pool(kind, VOLUME, kernel_shape=[2, 2, 2]) for kind in ("MaxPool", "AveragePool")),
    *(
        pool(kind, IMAGE, kernel_shape=[3, 2], strides=[2, 2], ceil_mode=1)
        for kind in ("MaxPool", "AveragePool")
    ),
    pool("MaxPool", IMAGE, **UNEVEN),
    pool("MaxPool", IMAGE, **SQUARE, dilations=[2, 1]),
    pool("MaxPool", IMAGE, **SQUARE, strides=[2, 2], auto_pad="SAME_UPPER"),
    pool("AveragePool", IMAGE, **PADDED, count_include_pad=1),
    pool("AveragePool", IMAGE, **UNEVEN, count_include_pad=1),
    Case("AveragePool", [IMAGE], attributes=SQUARE, opset=13),
    *(Case(kind, [x]) for kind in ("GlobalAveragePool", "GlobalMaxPool") for x in (LINE, VOLUME)),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_onnxruntime_does(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case("MaxPool", [IMAGE], attributes=SQUARE, outputs=2), "the places of its maxima"),
        (pool("MaxPool", IMAGE.astype(np.int8), **PADDED), "it pads whole numbers"),
        (pool("MaxPool", IMAGE, **SQUARE, pads=[2, 2, 2, 2]), "more than half of its kernel"),
        (pool("AveragePool", IMAGE, **UNEVEN), "leaves the padding out"),
        (pool("AveragePool", IMAGE, **SQUARE, dilations=[2, 2]), "its window has gaps"),
        (pool("MaxPool", numbers(1, 1, 3, 3, 3, 3), kernel_shape=[2, 2, 2, 2]), "4 axes"),
        (pool("MaxPool", IMAGE, kernel_shape=[2]), "its kernel does not fit"),
    ],
    ids=str,
)
def test_refuses(case: Case, why: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=why):
        converted(case.proto(), tmp_path)
