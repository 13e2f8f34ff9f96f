"""Weights that are no plain parameters of a plain layer, and what users do after optimizing."""

from __future__ import annotations

import warnings
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use
from torch.nn.utils import parametrizations, parametrize

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import conv, image, norm, pair


def quietly(make: Any) -> Any:
    """Return what makes the same without the warnings of deprecated functions."""

    def made() -> Any:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return make()

    return made


class Standardized(nn.Conv2d):
    """Standardizes its kernels at each call."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch gives it
        var, mean = torch.var_mean(self.weight, (1, 2, 3), keepdim=True)
        return F.conv2d(input, (self.weight - mean) * torch.rsqrt(var + 1e-6), self.bias)


class Equalized(nn.Conv2d):
    """Scales its weights at each call, as generative networks do."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch gives it
        weight: Tensor = self.weight * (2 / 27) ** 0.5
        result: Tensor = self._conv_forward(input, weight, self.bias)
        return result


class Conditional(nn.Conv2d):
    """Computes its weights from its input."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch gives it
        return F.conv2d(input, self.weight * input.mean().sigmoid(), self.bias)


class Doubling(nn.Conv2d):
    """Doubles what the convolution makes."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name torch gives it
        return super().forward(input) * 2


class SameConv(nn.Conv2d):
    """The same convolution under another name."""


class Symmetric(nn.Module):
    """A parametrization that makes kernels symmetric."""

    def forward(self, weight: Tensor) -> Tensor:
        return (weight + weight.flip(-1)) / 2


def before_norm(name: str, make: Any, why: str, expect: Expect | None = None, **rest: Any) -> Case:
    return case(
        f"d{name}",
        lambda: nn.Sequential(make(), norm(4)),
        image,
        expect or Expect(1),
        why,
        **rest,
    )


def same_padding_of_timm() -> nn.Module:
    from timm.layers.conv2d_same import Conv2dSame

    return Conv2dSame(3, 4, 3, stride=2)


COMPUTED = (
    before_norm(
        "1-weight-norm-parametrization",
        lambda: parametrizations.weight_norm(conv(3, 4)),
        "the weight is computed from two parameters",
    ),
    before_norm(
        "1-weight-norm-hook",
        quietly(lambda: nn.utils.weight_norm(conv(3, 4))),
        "a hook writes the weight before each call",
    ),
    before_norm(
        "1-spectral-norm-parametrization",
        lambda: parametrizations.spectral_norm(conv(3, 4)),
        "in eval mode nothing is iterated",
    ),
    before_norm(
        "1-spectral-norm-hook",
        quietly(lambda: nn.utils.spectral_norm(conv(3, 4))),
        "likewise in a hook",
    ),
    before_norm(
        "1-own-parametrization",
        lambda: parametrize.register_parametrization(conv(3, 4), "weight", Symmetric()),
        "any module can compute a weight",
    ),
    case(
        "d1-parametrized-norm",
        lambda: pair(
            lambda s, x: s.b(s.c(x)),
            b=parametrize.register_parametrization(norm(4), "weight", nn.Softplus()),
        ),
        image,
        Expect(1),
        "the scale is computed from a parameter",
    ),
    before_norm("2-standardized", lambda: Standardized(3, 4, 3), "fold into the computed weight"),
    before_norm("2-equalized", lambda: Equalized(3, 4, 3), "fold into the computed weight"),
    before_norm(
        "2-conditional",
        lambda: Conditional(3, 4, 3),
        "the weight depends on the input",
        Expect(0, ("computed-constants",)),
    ),
    before_norm("2-subclass-without-a-forward", lambda: SameConv(3, 4, 3), "only the name differs"),
    before_norm(
        "2-subclass-with-another-forward",
        lambda: Doubling(3, 4, 3),
        "the factor stands between",
        Expect(1, ops={"mul": 0}),
    ),
    before_norm(
        "2-same-padding-of-timm",
        same_padding_of_timm,
        "the padding is computed from the size of the input",
        Expect(0, ("not-captured",)),
        also_right=(Expect(1), Expect(0, ("no-linear-producer",))),
    ),
)


CASES = (*COMPUTED,)
