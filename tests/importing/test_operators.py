"""The table of operators, and what the documents say of it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
import pytest

from bnfuse.importing import (
    arithmetic,
    elementwise,
    layers,
    layout,
    making,
    norms,
    picking,
    reductions,
    resizing,
    sizes,
    windows,
)
from bnfuse.importing.file import NEWEST_OPSET
from bnfuse.importing.operators import OPERATORS

if TYPE_CHECKING:
    from types import ModuleType

GROUPS: tuple[ModuleType, ...] = (
    arithmetic, elementwise, layers, layout, making, norms, picking, reductions, resizing, sizes,
    windows,
)  # fmt: skip


def test_no_operator_stands_in_two_groups() -> None:
    assert sum(len(group.OPERATORS) for group in GROUPS) == len(OPERATORS) > 100


def test_the_documents_list_the_operators() -> None:
    text = (Path(__file__).resolve().parents[2] / "docs" / "import.md").read_text()
    (listed,) = re.findall(r"and these operators:\n\n(.*?)\.\n", text, re.DOTALL)
    assert listed.replace("\n", " ").split(", ") == sorted(OPERATORS)


@pytest.mark.parametrize("name", sorted(OPERATORS))
def test_onnx_has_the_operator(name: str) -> None:
    assert onnx.defs.get_schema(name, NEWEST_OPSET).name == name
