"""Operations that move elements, beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from onnx import helper

from bnfuse.errors import RequestError
from bnfuse.importing.layout import OPERATORS
from tests.importing.support import (
    Case,
    assert_same,
    check,
    computed,
    converted,
    ints,
    model,
    numbers,
    operations,
    run,
    value,
)

if TYPE_CHECKING:
    from pathlib import Path

X, IMAGE = numbers(2, 3, 4), numbers(2, 8, 4, 6)
ONES = numbers(2, 1, 3, 1)
CASES = (
    Case("Reshape", [X], [ints(-1, 12)]),
    Case("Reshape", [X], [ints(0, 2, -1)]),
    Case("Reshape", [X], [ints(0, 0, 2, 2)], opset=13),
    Case("Reshape", [X], [ints(-1, 4, 3)], {"allowzero": 1}),
    Case("Flatten", [IMAGE]),
    Case("Flatten", [IMAGE], attributes={"axis": 0}),
    Case("Flatten", [IMAGE], attributes={"axis": 2}),
    Case("Flatten", [IMAGE], attributes={"axis": -1}),
    Case("Flatten", [X], attributes={"axis": 3}),
    Case("Transpose", [X]),
    Case("Transpose", [IMAGE], attributes={"perm": [0, 2, 3, 1]}),
    Case("Squeeze", [ONES], [ints(-1, 1)]),
    Case("Squeeze", [ONES], open_batch=False, label="all", opset=13),
    Case("Unsqueeze", [X], [ints(1)]),
    Case("Unsqueeze", [X], [ints(-1, 1)], opset=13),
    Case("Concat", [X, numbers(2, 3, 4, seed=1)], attributes={"axis": 1}),
    Case("Concat", [X], [numbers(2, 3, 1)], {"axis": -1}, open_batch=False),
    Case("Split", [IMAGE], [ints(2, 6)], {"axis": 1}, outputs=2),
    Case("Split", [IMAGE], attributes={"axis": -3, "num_outputs": 3}, outputs=3),
    Case("Split", [IMAGE], attributes={"axis": 1}, outputs=2, opset=13),
    Case("Expand", [numbers(2, 1, 4)], [ints(1, 3, 1)]),
    Case("Expand", [numbers(1, 4)], [ints(5, 3, 4)], open_batch=False, label="new axes"),
    Case("Expand", [X], [ints(4)], label="fewer axes"),
    Case("Tile", [X], [ints(1, 2, 3)]),
    Case("DepthToSpace", [IMAGE], attributes={"blocksize": 2}),
    Case("DepthToSpace", [IMAGE], attributes={"blocksize": 2, "mode": "CRD"}),
    Case("SpaceToDepth", [IMAGE], attributes={"blocksize": 2}),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_onnxruntime_does(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case("Split", [X, ints(1, 2)], attributes={"axis": 1}, outputs=2), "must be constant"),
        (Case("Reshape", [X, ints(2, 12)], open_batch=False), "depends on data"),
    ],
    ids=str,
)
def test_refuses(case: Case, why: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=why):
        converted(case.proto(), tmp_path)


def test_a_size_read_from_the_input_stays_one(tmp_path: Path) -> None:
    """The exporter before dynamo wrote sizes as Shape, Gather, Unsqueeze and Concat."""
    nodes = [
        helper.make_node("Shape", ["x"], ["shape"]),
        helper.make_node("Gather", ["shape", "zero"], ["batch"]),
        helper.make_node("Unsqueeze", ["batch", "axes"], ["one"]),
        helper.make_node("Concat", ["one", "rest"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"]),
    ]
    kept = {"zero": ints(0)[0], "axes": ints(0), "rest": ints(4, -1)}
    proto = model(nodes, [value("x", ["batch", 3, 4])], ["y"], kept)
    module = converted(proto, tmp_path)
    assert [node.target for node in operations(module) if node.op == "call_method"] == ["size"]
    for x in (X, numbers(5, 3, 4)):
        assert_same(computed(module, [x]), run(proto, [x]))
