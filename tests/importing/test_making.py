"""Operations that make tensors, beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
from onnx import helper, numpy_helper

from bnfuse.errors import RequestError
from bnfuse.importing.making import OPERATORS
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

HALF = numpy_helper.from_array(np.array([0.5], dtype=np.float32))
CONSTANTS: tuple[dict[str, Any], ...] = (
    {"value": numpy_helper.from_array(numbers(2, 3))},
    {"value_float": 0.3},
    {"value_floats": [0.3, 0.4]},
    {"value_int": 3},
    {"value_ints": [3, 4]},
)
CASES = (
    *(Case("Constant", [], attributes=attributes) for attributes in CONSTANTS),
    Case("ConstantOfShape", [], [ints(2, 3)]),
    Case("ConstantOfShape", [], [ints(2, 3)], {"value": HALF}),
    Case("Range", [], [np.array(1), np.array(9), np.array(3)]),
    Case("Range", [], [np.array(b, dtype=np.float32) for b in (1.0, -1.0, -0.5)], opset=13),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_onnxruntime_does(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)


def test_sizes_of_the_input_stay_open(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("ConstantOfShape", ["shape"], ["halves"], value=HALF),
        helper.make_node("Squeeze", ["first", "zero"], ["count"]),
        helper.make_node("Slice", ["shape", "zero", "one"], ["first"]),
        helper.make_node("Range", ["from", "count", "by"], ["numbers"]),
        helper.make_node("Cast", ["numbers"], ["floats"], to=1),
        helper.make_node("Unsqueeze", ["floats", "one"], ["column"]),
        helper.make_node("Add", ["halves", "column"], ["sum"]),
        helper.make_node("Add", ["x", "sum"], ["y"]),
    ]
    nodes[2], nodes[3] = nodes[3], nodes[2]
    kept = {"zero": ints(0), "one": ints(1), "from": np.array(0), "by": np.array(1)}
    proto = model(nodes, [value("x", ["batch", 4])], ["y"], kept)
    module = converted(proto, tmp_path)
    for count in (1, 3):
        x = numbers(count, 4)
        assert_same(computed(module, [x]), run(proto, [x]))


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case("Constant", [], attributes={"value_string": "text"}), "type STRING, which"),
        (Case("ConstantOfShape", [], [ints(2**20, 2**20)]), "a tensor of 1099511627776 elements"),
        (
            Case("Range", [np.array(0), np.array(3), np.array(1)], open_batch=False),
            "where it ends depends on data",
        ),
    ],
    ids=str,
)
def test_refuses(case: Case, why: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=why):
        converted(case.proto(), tmp_path)
