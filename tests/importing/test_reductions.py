"""Reductions, beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnfuse.errors import RequestError
from bnfuse.importing.reductions import _REDUCTIONS, OPERATORS
from tests.importing.support import Case, check, converted, ints, numbers

if TYPE_CHECKING:
    from pathlib import Path

X = np.abs(numbers(2, 3, 4)) + 0.1
SIGNED = numbers(2, 3, 4)
CASES = (
    *(Case(name, [X], [ints(1)]) for name in _REDUCTIONS),
    *(Case(name, [X], [ints(-1, 1)], {"keepdims": 0}) for name in _REDUCTIONS),
    *(Case(name, [X], label="all") for name in _REDUCTIONS),
    *(
        Case(name, [X], attributes={"axes": [1]}, opset=13)
        for name in _REDUCTIONS
        if name != "ReduceSum"
    ),
    Case("ReduceSum", [X], [ints(1)], opset=13),
    Case("ReduceMean", [X], attributes={"noop_with_empty_axes": 1}),
    Case("ReduceSum", [X.astype(np.int32)], [ints(1)], label="whole"),
    Case("ReduceProd", [SIGNED.astype(np.int32)], [ints(1)], label="whole"),
    Case("ReduceL1", [SIGNED], [ints(2)], label="signed"),
    *(Case(name, [SIGNED], attributes={"axis": 1}) for name in ("ArgMax", "ArgMin")),
    *(
        Case(name, [SIGNED], attributes={"axis": -1, "keepdims": 0}, opset=13)
        for name in ("ArgMax", "ArgMin")
    ),
    Case("TopK", [SIGNED], [ints(2)], outputs=2),
    Case("TopK", [SIGNED], [ints(2)], {"axis": 1, "largest": 0}, outputs=2),
    Case("CumSum", [SIGNED], [np.array(1)]),
    Case("CumSum", [SIGNED], [np.array(-1)], {"exclusive": 1}),
    Case("CumSum", [SIGNED], [np.array(1)], {"reverse": 1}),
    Case("CumSum", [SIGNED], [np.array(2)], {"reverse": 1, "exclusive": 1}),
    Case("CumSum", [SIGNED.astype(np.int32)], [np.array(2)], label="whole"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_onnxruntime_does(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case("ArgMax", [X], attributes={"select_last_index": 1}), "the last of several"),
        (Case("ReduceL2", [X], attributes={"noop_with_empty_axes": 1}), "it reduces no axis"),
        (Case("ReduceSum", [X, ints(1)], open_batch=False), "its input 1 is computed"),
    ],
    ids=str,
)
def test_refuses(case: Case, why: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=why):
        converted(case.proto(), tmp_path)
