"""Operations on values: every spelling exists, with the arguments that the table names."""

from __future__ import annotations

from typing import Any

import pytest

from bnfuse.ops.table import Operation
from bnfuse.ops.table_values import VALUE_OPERATIONS
from tests.ops.spellings import argument_names, is_method, spellings

SPELLINGS = spellings(VALUE_OPERATIONS)


@pytest.mark.parametrize(("row", "spelling", "names"), SPELLINGS, ids=str)
def test_arguments_are_named_as_they_are(
    row: Operation, spelling: Any, names: tuple[str, ...]
) -> None:
    real = argument_names(spelling)
    if names == ("subtrahend", "minuend"):  # rsub: the table names them by what they are
        assert real in (None, ("input", "other", "alpha"))
    elif real is not None:
        assert names == real[: len(names)]
    assert set(row.inputs) <= set(names)


def test_methods_exist() -> None:
    assert all(is_method(name) for row in VALUE_OPERATIONS for name in row.methods)


def test_modules_hold_their_options() -> None:
    for row in VALUE_OPERATIONS:
        for module in row.modules:
            names = module.__init__.__code__.co_varnames
            known = {name for name in row.options if name in names}
            assert known or not row.options, module
