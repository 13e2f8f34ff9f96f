"""Operations on the elements of several values, beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest

from bnfuse.importing.arithmetic import OPERATORS
from tests.importing.support import Case, check, numbers

if TYPE_CHECKING:
    from pathlib import Path

A, B = numbers(2, 3, 4), numbers(2, 3, 4, seed=1)
ROW = numbers(3, 1, seed=2)
WHOLE, MORE = np.array([[7, -7, 6]]), np.array([[2, 2, -4]])
YES, NO = A > 0, B > 0
SMALL = np.array([[5, -7, 6]], dtype=np.int32)
NUMBER = np.array(0.3, dtype=np.float32)
CASES = (
    *(Case(name, [A, B]) for name in ("Add", "Sub", "Mul", "Div", "Greater", "Less", "Equal")),
    *(Case(name, [A], [NUMBER], label="number") for name in ("Add", "Sub", "Mul", "Div", "Less")),
    *(Case(name, [A], [ROW], label="row") for name in ("Add", "Sub", "Mul", "Div", "Max", "Min")),
    *(Case(name, [WHOLE, MORE], label="whole") for name in ("Add", "Sub", "Mul", "Div", "Mod")),
    *(Case(name, [YES, NO]) for name in ("And", "Or", "Xor", "Equal")),
    Case("GreaterOrEqual", [WHOLE, MORE]),
    Case("LessOrEqual", [WHOLE, MORE]),
    Case("Div", [SMALL], [np.array(2, dtype=np.int32)], label="whole number"),
    Case("Mod", [WHOLE, MORE], attributes={"fmod": 1}, label="whole"),
    Case("Mod", [A, B], attributes={"fmod": 1}),
    Case("Pow", [np.abs(A)], [np.array(1.5, dtype=np.float32)]),
    Case("Pow", [A], [np.array(2, dtype=np.int64)], label="whole exponent"),
    Case("Pow", [SMALL], [np.array(2.0, dtype=np.float32)], label="whole base"),
    Case("Max", [A, B, ROW], open_batch=False),
    Case("Min", [A, B, ROW], open_batch=False),
    Case("Sum", [A, B, ROW], open_batch=False),
    Case("Mean", [A, B, ROW], open_batch=False),
    Case("Max", [A], label="of one"),
    Case("Where", [YES, A, B]),
    Case("Add", [A, B], opset=13),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_onnxruntime_does(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_the_first_may_be_the_number(tmp_path: Path) -> None:
    from onnx import helper

    from tests.importing.support import assert_same, computed, converted, model, run, value

    node = helper.make_node("Sub", ["one", "x"], ["y"])
    proto = model([node], [value("x", A.shape)], ["y"], {"one": NUMBER})
    assert_same(computed(converted(proto, tmp_path), [A]), run(proto, [A]))


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)
