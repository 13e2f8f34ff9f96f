"""Operations that pick and put elements, beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnfuse.errors import RequestError
from bnfuse.importing.picking import OPERATORS
from tests.importing.support import Case, check, converted, ints, numbers

if TYPE_CHECKING:
    from pathlib import Path

X, IMAGE = numbers(2, 5, 6), numbers(2, 3, 5, 6)
END, START = 2**63 - 1, -(2**63) + 1
TABLE = numbers(7, 4)
GRID = np.clip(numbers(2, 4, 3, 2) * 0.6, -1.2, 1.2)
PLACES = np.array([[[0, 4, -1]], [[2, -5, 1]]])
PADS = ints(0, 0, 1, 2, 0, 0, 2, 0)
FILL = np.array(0.5, dtype=np.float32)
CASES = (
    Case("Slice", [X], [ints(1), ints(4), ints(1)]),
    Case("Slice", [X], [ints(0, -3), ints(END, END), ints(1, -1), ints(2, 1)]),
    Case("Slice", [X], [ints(0, 1), ints(END, -1)], label="first axes", opset=13),
    Case("Slice", [X], [ints(-1), ints(START), ints(2), ints(-1)], label="backwards"),
    Case("Slice", [X], [ints(-1, 1), ints(START, 3), ints(2, 1), ints(-1, 1)], label="both ways"),
    Case("Gather", [X], [np.array(2)], {"axis": 1}),
    Case("Gather", [X], [np.array(-1)], {"axis": -1}),
    Case("Gather", [X], [ints(3, 0, 0)], {"axis": 1}),
    Case("Gather", [X], [ints(3, -1)], {"axis": 2}),
    Case("Gather", [X], [np.array([[0, 1], [4, 2]])], {"axis": 1}),
    Case("Gather", [TABLE, np.array([[1, 0], [6, -2]])], open_batch=False, label="computed"),
    Case("GatherElements", [X], [PLACES], {"axis": 1}, open_batch=False),
    Case("GatherElements", [X, np.abs(PLACES) % 5], attributes={"axis": 1}, open_batch=False),
    Case("GatherND", [X], [np.array([[0, 1], [1, -2]])], open_batch=False),
    Case("GatherND", [X, np.array([[[0, 1, 2]], [[1, 4, 5]]])], open_batch=False),
    Case("ScatterElements", [X], [PLACES, numbers(2, 1, 3, seed=1)], {"axis": 1}, open_batch=False),
    Case("ScatterND", [X], [np.array([[0, 1], [1, 2]]), numbers(2, 6, seed=1)], open_batch=False),
    Case("Pad", [IMAGE], [PADS]),
    Case("Pad", [IMAGE], [PADS, FILL], opset=13),
    Case("Pad", [IMAGE], [ints(0, 0, -1, 1, 0, 1, 2, -2)], label="crop"),
    *(Case("Pad", [IMAGE], [PADS], {"mode": mode}) for mode in ("reflect", "edge", "wrap")),
    Case("Pad", [IMAGE], [ints(1, 2), FILL, ints(-1)], label="named axes"),
    Case("Pad", [IMAGE], [ints(*[0] * 8)], label="nothing"),
    Case("Trilu", [X]),
    Case("Trilu", [X], [np.array(1)], {"upper": 0}),
    *(
        Case("GridSample", [IMAGE, GRID], attributes={"mode": mode, "align_corners": corners})
        for mode in ("linear", "nearest", "cubic")
        for corners in (0, 1)
    ),
    Case("GridSample", [IMAGE, GRID], attributes={"padding_mode": "border"}),
    Case("GridSample", [IMAGE, GRID], attributes={"mode": "bilinear"}, opset=16),
    Case("Einsum", [X], [numbers(6, 3)], {"equation": "b i j, j k -> b i k"}),
    Case("Einsum", [X, numbers(2, 5, 6, seed=1)], attributes={"equation": "bij,bkj->bik"}),
    Case("OneHot", [np.array([[1, 0, -1]])], [np.array(4), np.array([0.5, 2.0], dtype=np.float32)]),
    Case("OneHot", [np.array([[1, 0, 2]])], [np.array(3), ints(0, 1)], {"axis": 1}),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_onnxruntime_does(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case("Slice", [X], [ints(3), ints(0), ints(1), ints(-1)]), "it goes backwards"),
        (
            Case("ScatterND", [X], [np.array([[0]]), numbers(1, 5, 6)], {"reduction": "add"}),
            "it combines what it writes",
        ),
        (
            Case("ScatterElements", [X], [PLACES, numbers(2, 1, 3)], {"reduction": "max"}),
            "it combines what it writes",
        ),
        (Case("GatherND", [X], [np.array([[0], [1]])], {"batch_dims": 1}), "axes of its own"),
        (Case("Pad", [X], [ints(0, 1, 0, 0, 1, 0)], {"mode": "edge"}), "batches or channels"),
        (Case("Pad", [X], [ints(0, 0, -1, 0, 0, 2)], {"mode": "edge"}), "it crops"),
    ],
    ids=str,
)
def test_refuses(case: Case, why: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=why):
        converted(case.proto(), tmp_path)
