"""Which subclasses behave as the layer they come from."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.testing._internal.two_tensor import TwoTensor

from bnfuse.ops.plain import MISSING, behaves_as, oddity


class Named(nn.Conv2d):
    """Adds what takes no part in a call."""

    label = "stem"

    def describe(self) -> str:
        return self.label


class Twice(nn.Conv2d):
    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as in torch
        return super().forward(input) * 2


class Standardized(nn.Conv2d):
    def _conv_forward(
        self,
        input: torch.Tensor,  # noqa: A002 - as in torch
        weight: torch.Tensor,
        bias: torch.Tensor | None,
    ) -> torch.Tensor:
        return super()._conv_forward(input, weight - weight.mean(), bias)


class Called(nn.Conv2d):
    def __call__(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as in torch
        return torch.zeros(1)


class NamedTwice(Twice):
    """Inherits a forward that is not the layer's."""


@pytest.mark.parametrize(
    ("layer", "behaves"),
    [
        (nn.Conv2d, True),
        (Named, True),
        (Twice, False),
        (Standardized, False),
        (Called, False),
        (NamedTwice, False),
        (nn.ConvTranspose2d, False),
    ],
)
def test_only_what_takes_part_in_a_call_matters(layer: type[nn.Conv2d], behaves: bool) -> None:
    assert (behaves_as(layer(1, 1, 1), [nn.Conv2d]) is nn.Conv2d) is behaves


def test_a_property_in_place_of_a_tensor_matters() -> None:
    parametrized = nn.utils.parametrizations.weight_norm(nn.Conv2d(1, 1, 1))
    assert behaves_as(parametrized, [nn.Conv2d]) is None


class OwnParameter(nn.Parameter):
    """Adds nothing to operations."""


@pytest.mark.filterwarnings("ignore:The PyTorch API of nested tensors:UserWarning")
@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor:UserWarning")
def test_what_is_no_plain_dense_tensor_is_named() -> None:
    ones = torch.ones(2, 2)
    assert [oddity(t) for t in (ones, ones.expand(3, 2, 2), OwnParameter(ones))] == ["", "", ""]
    assert oddity(ones.to_sparse()) == "sparse_coo"
    assert oddity(ones.to_mkldnn()) == "mkldnn"
    assert oddity(torch.nested.nested_tensor([ones])) == "nested"
    assert oddity(torch.quantize_per_tensor(ones, 0.1, 0, torch.qint8)) == "quantized"
    assert oddity(nn.Parameter(TwoTensor(ones, ones + 1))) == "a TwoTensor"
    assert (oddity(MISSING), oddity(None)) == ("missing", "a NoneType")
