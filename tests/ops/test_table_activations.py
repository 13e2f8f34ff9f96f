"""Operations on elements and norms: every spelling exists, with the arguments the table names."""

from __future__ import annotations

from typing import Any

import pytest

from bnfuse.ops.table import Operation
from bnfuse.ops.table_activations import ACTIVATIONS
from tests.ops.spellings import argument_names, is_method, spellings


@pytest.mark.parametrize(("row", "spelling", "names"), spellings(ACTIVATIONS), ids=str)
def test_arguments_are_named_as_they_are(
    row: Operation, spelling: Any, names: tuple[str, ...]
) -> None:
    real = argument_names(spelling)
    if real is not None:
        assert names == real[: len(names)]
    assert {*names[1:]} <= {*row.options, *row.constants, "eps"}


def test_methods_exist() -> None:
    assert all(is_method(name) for row in ACTIVATIONS for name in row.methods)


def test_modules_hold_their_options() -> None:
    for row in ACTIVATIONS:
        for module in row.modules:
            names = module.__init__.__code__.co_varnames
            assert not row.options or {*row.options} & {*names}, module
