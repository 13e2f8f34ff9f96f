"""Triton's activations have the names of the others; a kernel's test has their numbers."""

from __future__ import annotations

import pytest

pytest.importorskip("triton")

from bnfuse.kernels import Activation, triton_activations
from bnfuse.kernels.activation import NAMES
from tests.kernels.support import ACTIVATIONS


def test_all_are_there() -> None:
    assert {name.removesuffix("_tanh") for name in triton_activations.FORMULAS} == NAMES
    for activation in ACTIVATIONS:
        assert triton_activations.formula(activation) is not None


def test_both_of_gelu() -> None:
    exact, tanh = (triton_activations.formula(Activation("gelu", (), a)) for a in ("none", "tanh"))
    assert exact is not tanh
    assert triton_activations.formula(None) is None
