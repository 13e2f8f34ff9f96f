"""What the kernel is given may have been changed since it was prepared, or hold no memory."""

from __future__ import annotations

import gc
import weakref
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.kernels import Activation
from tests.kernels.support import Case, error, fused, needs_library

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = needs_library
RELU = Activation("relu")


def gives_shorter_data(bias: nn.Parameter) -> None:
    bias.data = torch.ones(2)


def resizes(bias: nn.Parameter) -> None:
    bias.resize_(2)


@pytest.mark.parametrize("change", [gives_shorter_data, resizes])
def test_a_bias_that_became_shorter_is_an_error(case: Case, change: Callable[[Any], None]) -> None:
    layer = fused(case.conv(), "", RELU)
    layer(case.x)
    change(layer.bias)
    with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional"):
        layer(case.x)


def test_a_bias_that_became_shorter_inside_a_graph(case: Case) -> None:
    optimized: Any = bnfuse.optimize(nn.Sequential(case.conv(), nn.ReLU()).eval())
    with torch.no_grad():
        for _ in range(2):
            optimized(case.x)
        optimized.get_submodule("0").bias.resize_(2)
        with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional"):
            optimized(case.x)


def test_an_input_without_memory_is_an_error(case: Case) -> None:
    layer, x = fused(case.conv(), "", RELU), case.last(case.x)
    layer(x)
    x.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match=r"data is not allocated|out of bounds for storage"):
        layer(x)


def test_without_the_second_operand_nothing_is_added(case: Case) -> None:
    layer = fused(case.conv(), "add", RELU)
    layer(case.x, case.other)
    assert error(layer(case.x), case.conv()(case.x).relu()) < 1e-6


def test_weights_are_given_back_at_once(case: Case) -> None:
    layer = fused(case.conv(), "add", RELU)
    layer(case.x, case.other)
    gc.disable()
    try:
        seen = weakref.ref(layer._cache.packed.formats)
        layer.release()
        assert seen() is None
    finally:
        gc.enable()
