"""Operations that pick elements: every spelling exists, with the arguments that the table names."""

from __future__ import annotations

from typing import Any

import pytest

from bnfuse.ops.table import Operation
from bnfuse.ops.table_picking import PICKING
from tests.ops.spellings import argument_names, is_method, spellings


@pytest.mark.parametrize(("row", "spelling", "names"), spellings(PICKING), ids=str)
def test_arguments_stand_where_they_are(
    row: Operation, spelling: Any, names: tuple[str, ...]
) -> None:
    real = argument_names(spelling)
    if real is not None:
        assert names == real[: len(names)]
    assert {*names[1:]} <= {*row.options, *row.constants}


def test_methods_exist() -> None:
    assert all(is_method(name) for row in PICKING for name in row.methods)
