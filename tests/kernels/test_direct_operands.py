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
from tests.kernels.support import conv, drawn, error, fused, needs_library

if TYPE_CHECKING:
    from collections.abc import Callable

pytestmark = needs_library
RELU = Activation("relu")
X, OTHER = drawn(1, 8, 20, 20), drawn(1, 8, 20, 20, seed=1)


def gives_shorter_data(bias: nn.Parameter) -> None:
    bias.data = torch.ones(2)


def resizes(bias: nn.Parameter) -> None:
    bias.resize_(2)


@pytest.mark.parametrize("change", [gives_shorter_data, resizes])
def test_a_bias_that_became_shorter_is_an_error(change: Callable[[Any], None]) -> None:
    layer = fused(conv(), "", RELU)
    layer(X)
    change(layer.bias)
    with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional"):
        layer(X)


def test_a_bias_that_became_shorter_inside_a_graph() -> None:
    optimized: Any = bnfuse.optimize(nn.Sequential(conv(), nn.ReLU()).eval())
    with torch.no_grad():
        for _ in range(2):
            optimized(X)
        optimized.get_submodule("0").bias.resize_(2)
        with pytest.raises(RuntimeError, match="expected bias to be 1-dimensional"):
            optimized(X)


def test_an_input_without_memory_is_an_error() -> None:
    layer, x = fused(conv(), "", RELU), X.contiguous(memory_format=torch.channels_last)
    layer(x)
    x.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="data is not allocated"):
        layer(x)


def test_without_the_second_operand_nothing_is_added() -> None:
    layer = fused(conv(), "add", RELU)
    layer(X, OTHER)
    assert error(layer(X), conv()(X).relu()) < 1e-6


def test_weights_are_given_back_at_once() -> None:
    layer = fused(conv(), "add", RELU)
    layer(X, OTHER)
    gc.disable()
    try:
        seen = weakref.ref(layer._cache.packed.formats)
        layer.release()
        assert seen() is None
    finally:
        gc.enable()
