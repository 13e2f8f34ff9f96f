"""All cases."""

from __future__ import annotations

import importlib
from dataclasses import replace

from tests.conformance.case import Case

MODULES = (
    "torch_table",
    "torch_table_between",
    "torch_table_sharing",
    "onnx_table",
    "onnx_table_between",
    "onnx_table_affine",
    "sharing",
    "axes",
    "axes_padding",
    "axes_between",
    "modes",
    "modes_precision",
    "modes_affine",
    "weights",
    "weights_afterwards",
    "capturing",
    "capturing_roots",
    "structure",
    "hostile_arguments",
    "hostile_containers",
    "hostile_values",
    "hostile_writes",
    "hostile_state",
    "hostile_copies",
    "hostile_hooks",
    "hostile_python",
    "hostile_readers",
)


AWAITED: frozenset[str] = frozenset()
# Here the graph of a part stands by: every call of the example runs the part's own Python.
IDLE = frozenset({"hook-with-keywords-on-the-model", "python-child-called-layer-by-layer"})


def _collected() -> tuple[Case, ...]:
    found: list[Case] = []
    for name in MODULES:
        found += importlib.import_module(f"tests.conformance.{name}").CASES
    names = [case.name for case in found]
    repeated = sorted({name for name in names if names.count(name) > 1})
    assert not repeated, f"two cases have one name: {repeated}"
    assert set(names) >= AWAITED | IDLE
    return tuple(replace(case, reach=True) if case.name in AWAITED else case for case in found)


CASES = _collected()
