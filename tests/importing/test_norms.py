"""Norms that compute statistics, softmax and attention, beside onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from bnfuse.errors import RequestError
from bnfuse.importing.norms import OPERATORS
from tests.importing.support import LATEST, Case, check, converted, numbers

if TYPE_CHECKING:
    from pathlib import Path

X, IMAGE = numbers(2, 3, 4), numbers(2, 6, 5, 4)
SCALE, BIAS = numbers(4, seed=1), numbers(4, seed=2)
WIDE = [numbers(3, 4, seed=1), numbers(3, 4, seed=2)]
CHANNELS = [numbers(6, seed=1), numbers(6, seed=2)]
HEADS = [numbers(2, 3, 5, 4, seed=seed) for seed in range(3)]
CASES = (
    Case("LayerNormalization", [X], [SCALE, BIAS]),
    Case("LayerNormalization", [X], [SCALE], {"epsilon": 0.1}),
    Case("LayerNormalization", [X], WIDE, {"axis": 1}),
    Case("LayerNormalization", [X], [SCALE, BIAS], {"axis": -2}, label="one scale for all rows"),
    Case("LayerNormalization", [X, SCALE, BIAS], open_batch=False, label="computed scale"),
    Case("RMSNormalization", [X], [SCALE], opset=LATEST),
    Case("RMSNormalization", [X], WIDE[:1], {"axis": 1, "epsilon": 0.1}, opset=LATEST),
    Case("InstanceNormalization", [IMAGE], CHANNELS, {"epsilon": 0.01}),
    Case("GroupNormalization", [IMAGE], CHANNELS, {"num_groups": 3}, opset=21),
    Case("LRN", [IMAGE], attributes={"size": 3}),
    Case("LRN", [IMAGE], attributes={"size": 5, "alpha": 0.2, "beta": 0.5, "bias": 2.0}),
    *(Case(name, [X]) for name in ("Softmax", "LogSoftmax")),
    *(Case(name, [X], attributes={"axis": 1}, opset=13) for name in ("Softmax", "LogSoftmax")),
    Case("Attention", HEADS, opset=LATEST),
    Case("Attention", HEADS, attributes={"scale": 0.3}, opset=LATEST),
    Case("Attention", HEADS, attributes={"is_causal": 1}, opset=LATEST),
    Case("Attention", HEADS, [numbers(5, 5)], opset=LATEST, label="mask"),
)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_computes_what_onnxruntime_does(case: Case, tmp_path: Path) -> None:
    check(case, tmp_path)


def test_every_operator_has_a_case() -> None:
    assert {case.operator for case in CASES} == set(OPERATORS)


def test_layer_norm_becomes_a_layer(tmp_path: Path) -> None:
    module = check(CASES[0], tmp_path)
    assert [type(layer).__name__ for layer in module.children()] == ["LayerNorm"]


@pytest.mark.parametrize(
    ("case", "why"),
    [
        (Case("LRN", [IMAGE], attributes={"size": 4}), "its size 4 is even"),
        (Case("LayerNormalization", [X], [SCALE, BIAS], outputs=2), "its statistics are read"),
        (Case("Attention", HEADS, attributes={"softcap": 2.0}, opset=LATEST), "softcap"),
        (
            Case("Attention", [HEADS[0], HEADS[1][:, :1], HEADS[2][:, :1]], opset=LATEST),
            "several queries share a key",
        ),
    ],
    ids=str,
)
def test_refuses(case: Case, why: str, tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=why):
        converted(case.proto(), tmp_path)
