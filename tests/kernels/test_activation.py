"""Each activation is what PyTorch's module of that name computes."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnfuse.kernels import Activation
from bnfuse.kernels.activation import NAMES
from tests.kernels.support import ACTIVATIONS, drawn

MODULES = {
    "relu": nn.ReLU(),
    "relu6": nn.ReLU6(),
    "hardtanh": nn.Hardtanh(-0.5, 0.75),
    "leaky_relu": nn.LeakyReLU(0.1),
    "sigmoid": nn.Sigmoid(),
    "tanh": nn.Tanh(),
    "silu": nn.SiLU(),
    "hardswish": nn.Hardswish(),
    "hardsigmoid": nn.Hardsigmoid(),
    "gelu(none)": nn.GELU(),
    "gelu(tanh)": nn.GELU(approximate="tanh"),
}


@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_is_the_module(activation: Activation) -> None:
    x = 4 * drawn(64)
    key = activation.name + (f"({activation.approximate})" if activation.approximate else "")
    wanted = MODULES[key](x)
    assert torch.equal(activation.plain(x), wanted)
    assert torch.equal(activation.written(x.clone()), wanted)


def test_all_names_are_tested() -> None:
    assert {activation.name for activation in ACTIVATIONS} == NAMES


def test_plain_writes_nothing() -> None:
    for activation in ACTIVATIONS:
        x = drawn(8)
        activation.plain(x)
        assert torch.equal(x, drawn(8))


def test_names_of_onednn() -> None:
    assert Activation("silu").onednn == ("swish", [], "")
    assert Activation("gelu", (), "tanh").onednn == ("gelu", [], "tanh")
    assert str(Activation("hardtanh", (0.0, 1.0))) == "hardtanh(0.0, 1.0)"
