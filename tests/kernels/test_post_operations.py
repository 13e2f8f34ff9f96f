"""The numbers of activations, and what they compute."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnfuse.kernels import Activation
from bnfuse.kernels.activation import NAMES
from bnfuse.kernels.direct import Direct
from bnfuse.kernels.post_operations import GELU_ERF, GELU_TANH, algorithm
from tests.kernels.support import ACTIVATIONS, error, fused, kernels_of, layer, needs_library


def test_every_activation_has_a_number() -> None:
    assert {activation.name for activation in ACTIVATIONS} == NAMES
    assert len({algorithm(activation) for activation in ACTIVATIONS}) == len(ACTIVATIONS)


def test_both_gelus() -> None:
    assert algorithm(Activation("gelu", (), "none"))[0] == GELU_ERF
    assert algorithm(Activation("gelu", (), "tanh"))[0] == GELU_TANH


@needs_library
@pytest.mark.parametrize("activation", ACTIVATIONS, ids=str)
def test_they_compute_what_pytorch_does(activation: Activation) -> None:
    one = layer(nn.Conv2d, 16, 16, 1, bias=False)
    one.weight = nn.Parameter(torch.eye(16)[:, :, None, None], requires_grad=False)
    x = torch.linspace(-8, 8, 16 * 400).view(1, 16, 20, 20)
    made = fused(one, "", activation)
    assert error(made(x), activation.plain(x)) < 1e-6
    assert isinstance(kernels_of(made)[x.shape], Direct)
