"""Operations that move elements: every spelling exists, with the arguments that the table names."""

from __future__ import annotations

from typing import Any

import pytest

from bnfuse.ops.table import Operation
from bnfuse.ops.table_layout import LAYOUT
from tests.ops.spellings import argument_names, is_method, spellings


@pytest.mark.parametrize(("row", "spelling", "names"), spellings(LAYOUT), ids=str)
def test_arguments_stand_where_they_are(
    row: Operation, spelling: Any, names: tuple[str, ...]
) -> None:
    real = argument_names(spelling)
    if real is not None:
        assert len(names) <= len(real)
    assert names[0] == row.inputs[0] == "input"
    assert {name.removeprefix("*") for name in names[1:]} <= set(row.options) | _READ_BY_NOTHING


_READ_BY_NOTHING = {"align_corners", "recompute_scale_factor", "antialias"}


def test_methods_exist() -> None:
    assert all(is_method(name) for row in LAYOUT for name in row.methods)
