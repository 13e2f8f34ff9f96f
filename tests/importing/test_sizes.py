"""Arithmetic on sizes, beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from onnx import helper

from bnfuse.errors import RequestError
from bnfuse.importing.sizes import Sizes, as_sizes, settled
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

X = numbers(2, 6, 4)
KEPT = {
    "zero": ints(0)[0], "axis": ints(0), "one": ints(1), "two": ints(2)[0], "last": ints(-1),
    "pair": ints(2, 3), "far": ints(2**62), "many": ints(1, 1, 2),
}  # fmt: skip
NODES: dict[str, list[tuple[str, list[str], dict[str, Any]]]] = {
    "all": [],
    "picked": [("Gather", ["s", "axis"], {})],
    "the number": [("Gather", ["s", "zero"], {}), ("Mul", ["a", "two"], {})],
    "slice": [("Slice", ["s", "axis", "far"], {})],
    "slice with a step": [("Slice", ["s", "axis", "far", "axis", "one"], {})],
    "sum": [("Add", ["s", "many"], {})],
    "difference": [("Sub", ["s", "one"], {})],
    "product": [("Mul", ["s", "s"], {})],
    "quotient": [("Div", ["s", "two"], {})],
    "cast": [("Cast", ["s"], {"to": 7}), ("Add", ["a", "one"], {})],
    "cast to less": [("Cast", ["s"], {"to": 6})],
    "cast to a fraction": [("Cast", ["s"], {"to": 1}), ("Sqrt", ["a"], {})],
    "joined": [("Concat", ["s", "pair"], {"axis": 0})],
    "reshaped": [("Reshape", ["s", "last"], {}), ("Identity", ["a"], {})],
    "a number and back": [
        ("Gather", ["s", "zero"], {}), ("Unsqueeze", ["a", "axis"], {}),
        ("Squeeze", ["b", "axis"], {}), ("Reshape", ["c", "last"], {}),
    ],
    "two rows": [("Unsqueeze", ["s", "axis"], {})],
    "rounded": [("Cast", ["s"], {"to": 1}), ("Floor", ["a"], {}), ("Cast", ["b"], {"to": 7})],
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
@pytest.mark.parametrize("batch", [2, "batch"])
def test_computes_what_onnxruntime_does(name: str, batch: int | str, tmp_path: Path) -> None:
    steps = NODES[name]
    nodes = [helper.make_node("Shape", ["x"], ["s"])]
    for letter, (kind, inputs, attributes) in zip("abcdef", steps, strict=False):
        nodes.append(helper.make_node(kind, inputs, [letter], name=letter, **attributes))
    last = "abcdef"[len(steps) - 1] if steps else "s"
    proto = model(nodes, [value("x", [batch, 6, 4])], [last], KEPT)
    module = converted(proto, tmp_path)
    for x in (X, numbers(2 if batch == 2 else 5, 6, 4)):
        assert_same(computed(module, [x]), run(proto, [x]))
    is_fixed = {node.op for node in operations(module)} == {"placeholder", "get_attr", "output"}
    assert is_fixed == (batch == 2)


@pytest.mark.parametrize(
    "case",
    [
        Case("Shape", [X]),
        Case("Shape", [X], attributes={"start": 1}),
        Case("Shape", [X], attributes={"start": -2, "end": -1}),
        Case("Shape", [X], opset=13),
        Case("Size", [X]),
    ],
    ids=str,
)
def test_shape_and_size(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_numbers_are_constants_and_others_are_not() -> None:
    found = settled([2, 3])
    assert isinstance(found, torch.Tensor)
    assert found.tolist() == [2, 3]
    assert as_sizes(torch.tensor(4)) == Sizes((4,), is_scalar=True)
    assert as_sizes(torch.tensor([4.0])) is None
    assert as_sizes(torch.tensor([[4]])) is None
    assert as_sizes(None) is None


def test_refuses_an_axis_there_is_not(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "nine"], ["y"], name="pick"),
    ]
    proto = model(nodes, [value("x", ["batch", 6])], ["y"], {"nine": ints(9)})
    with pytest.raises(RequestError, match="Gather of the node 'pick': it reads an axis"):
        converted(proto, tmp_path)
