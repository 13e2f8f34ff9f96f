"""Which subclasses behave as the layer they come from."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from bnfuse.ops.plain import behaves_as


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
