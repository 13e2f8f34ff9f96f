"""Operations on each element of a value, beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
from onnx import TensorProto

from bnfuse.errors import RequestError
from bnfuse.importing.elementwise import OPERATORS
from tests.importing.support import Case, check, converted, numbers

if TYPE_CHECKING:
    from pathlib import Path

X = numbers(2, 3, 4)
ABOVE_ONE, BELOW_ONE, POSITIVE = 1 + np.abs(X), np.tanh(X), np.abs(X) + 0.1
ODD = np.array([[np.nan, np.inf, -np.inf, 1.0]], dtype=np.float32)
LOW, HIGH = np.array(-0.5, dtype=np.float32), np.array(0.7, dtype=np.float32)
GIVEN = {
    "Acosh": ABOVE_ONE, "Acos": BELOW_ONE, "Asin": BELOW_ONE, "Atanh": BELOW_ONE,
    "Log": POSITIVE, "Sqrt": POSITIVE, "Reciprocal": POSITIVE, "Not": X > 0, "IsNaN": ODD,
}  # fmt: skip
PLAIN = sorted(
    set(OPERATORS)
    - {"Clip", "PRelu", "Gelu", "IsInf", "Cast", "CastLike", "Dropout", "HardSigmoid", "Selu"}
)
CASES = (
    *(Case(name, [GIVEN.get(name, X)]) for name in PLAIN),
    Case("Round", [np.array([[0.5, 1.5, -0.5, 2.4]], dtype=np.float32)], label="to even"),
    *(Case(name, [X], attributes={"alpha": 0.3}) for name in ("Elu", "Celu", "LeakyRelu")),
    Case("ThresholdedRelu", [X], attributes={"alpha": 0.5}),
    Case("Clip", [X], [LOW, HIGH]),
    Case("Clip", [X], [None, HIGH], label="from above"),
    Case("Clip", [X], [LOW], label="from below", opset=13),
    Case("Clip", [X], label="by nothing"),
    Case("Clip", [X, LOW, HIGH], label="computed bounds"),
    Case("HardSigmoid", [X * 3]),
    Case("HardSigmoid", [X * 3], attributes={"alpha": 1 / 6, "beta": 0.5}),
    Case("Selu", [X]),
    Case("Selu", [X], attributes={"alpha": 1.5, "gamma": 1.1}),
    Case("PRelu", [X], [np.array([0.25], dtype=np.float32)], label="one slope"),
    Case("PRelu", [X], [numbers(3, 1, seed=1)], label="channels"),
    Case("PRelu", [X], [numbers(4, seed=1)], label="last axis"),
    Case("PRelu", [X, numbers(2, 3, 4, seed=1)], label="computed"),
    Case("Gelu", [X]),
    Case("Gelu", [X], attributes={"approximate": "tanh"}),
    Case("IsInf", [ODD]),
    Case("IsInf", [ODD], attributes={"detect_negative": 0}),
    Case("IsInf", [ODD], attributes={"detect_positive": 0}),
    *(
        Case("Cast", [X * 3], attributes={"to": to})
        for to in (TensorProto.DOUBLE, TensorProto.INT32, TensorProto.BOOL, TensorProto.FLOAT16)
    ),
    Case("CastLike", [X], [np.array([1], dtype=np.int64)]),
    Case("Dropout", [X]),
    Case("Dropout", [X], [LOW + 1, np.array(False)], label="told not to train"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_onnxruntime_does(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case("Dropout", [X], [LOW + 1, np.array(True)]), "it drops elements at random"),
        (Case("Dropout", [X], outputs=2), "its mask is read"),
        (
            Case("IsInf", [ODD], attributes={"detect_negative": 0, "detect_positive": 0}),
            "it looks for no infinity",
        ),
        (
            Case("Cast", [X], attributes={"to": TensorProto.FLOAT8E4M3FN}),
            "FLOAT8E4M3FN, which bnfuse cannot read",
        ),
    ],
    ids=str,
)
def test_refuses(case: Case, why: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=why):
        converted(case.proto(), tmp_path)
