"""What stands between a layer and a batch norm: the same measurements."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tests.conformance.case import Expect, case
from tests.conformance.models import conv, given, image, net, norm


def cat_norm(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.b(torch.cat([self.c(x), self.d(x)], 1))
    return result


def levit(self: Any, x: Tensor) -> Tensor:
    y = self.l(x)
    result: Tensor = self.b(y.flatten(0, 1)).reshape_as(y)
    return result


BETWEEN = (
    case(
        "table-conv-identity-norm",
        lambda: nn.Sequential(conv(3, 4), nn.Identity(), norm(4)),
        image,
        Expect(1),
        "an identity hides the neighbour",
    ),
    case(
        "table-conv-dropout-norm",
        lambda: nn.Sequential(conv(3, 4), nn.Dropout(), norm(4)),
        image,
        Expect(1),
        "dropout is off in eval mode",
    ),
    case(
        "table-conv-relu-norm",
        lambda: nn.Sequential(conv(3, 4), nn.ReLU(), norm(4)),
        image,
        Expect(0, ("no-linear-producer",)),
        "a shift does not pass a relu, and nothing comes after",
    ),
    case(
        "table-conv-norm-norm",
        lambda: nn.Sequential(conv(3, 4), norm(4), norm(4)),
        image,
        Expect(2),
        "both fold, one after the other",
    ),
    case(
        "table-norm-conv-without-padding",
        lambda: nn.Sequential(norm(3), conv(3, 4)),
        image,
        Expect(1),
        "the norm goes into the convolution after it",
    ),
    case(
        "table-norm-conv-zero-padding",
        lambda: nn.Sequential(norm(3), conv(3, 4, padding=1)),
        image,
        Expect(1),
        "zeros are padded after the norm, so that its shift is not the same at the border",
        cites=("pytorch#144403",),
        sized=True,
    ),
    case(
        "table-norm-linear",
        lambda: nn.Sequential(nn.BatchNorm1d(5), nn.Linear(5, 3)),
        given((4, 5)),
        Expect(1),
        "the norm goes into the linear layer after it",
    ),
    case(
        "table-conv-average-pool-norm",
        lambda: nn.Sequential(conv(3, 4), nn.AvgPool2d(2), norm(4)),
        image,
        Expect(1),
        "a true mean passes an affine",
    ),
    case(
        "table-conv-global-pool-flatten-norm",
        lambda: nn.Sequential(conv(3, 4), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(4)),
        image,
        Expect(1),
        "a global mean and a flatten of single pixels pass an affine",
    ),
    case(
        "table-concatenation-norm",
        lambda: net(cat_norm, c=conv(3, 4), d=conv(3, 2), b=norm(6)),
        image,
        Expect(1),
        "the affine is split by channels",
        cites=("AIMET#2221",),
    ),
    case(
        "table-linear-flatten-norm",
        lambda: net(levit, l=nn.Linear(5, 6), b=nn.BatchNorm1d(6)),
        given((2, 4, 5)),
        Expect(1),
        "flattening batch and length leaves the channels where they are",
        cites=("onnxruntime#12522",),
    ),
)


CASES = (*BETWEEN,)
