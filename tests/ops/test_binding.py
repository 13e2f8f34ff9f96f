"""Arguments by name, however a call spells them."""

from __future__ import annotations

from typing import Any

import pytest
from torch import fx

from bnfuse.ops.binding import bind, names_of

CASES: dict[str, tuple[tuple[str, ...], tuple[Any, ...], dict[str, Any], dict[str, Any]]] = {
    "in-order": (("input", "dim"), (7, 1), {}, {"input": 7, "dim": 1}),
    "by-name": (("input", "dim"), (7,), {"dim": 1}, {"input": 7, "dim": 1}),
    "as-numpy-has-it": (("input", "dim"), (7,), {"axis": 1}, {"input": 7, "dim": 1}),
    "by-a-name-of-its-own": (("input", "axis"), (7,), {"axis": 1}, {"input": 7, "axis": 1}),
    "several": (("input", "*shape"), (7, 2, 3), {}, {"input": 7, "shape": (2, 3)}),
    "several-as-one-list": (("input", "*shape"), (7, [2, 3]), {}, {"input": 7, "shape": (2, 3)}),
    "none-of-several": (("input", "*shape"), (7,), {}, {"input": 7}),
    "one-too-many": (("input",), (7, 8), {}, {"input": 7, "argument 1": 8}),
    "unknown-name": (("input",), (7,), {"out": 8}, {"input": 7, "out": 8}),
}


@pytest.mark.parametrize("name", CASES)
def test_arguments_by_name(name: str) -> None:
    names, args, kwargs, wanted = CASES[name]
    node = fx.Graph().create_node("call_function", sum, args, kwargs)
    assert bind(names, node) == wanted


def test_a_star_is_no_part_of_a_name() -> None:
    assert names_of(("input", "*shape")) == ("input", "shape")
