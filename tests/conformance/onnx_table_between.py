"""What stands between, before and beside: the same measurements on ONNX files."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import conv, given, image, norm, pair, positive_scale


def between(name: str, operation: Any, channels: int = 4, **rest: Any) -> Case:
    """Return the case of an operation between a convolution with four channels and a norm."""
    return case(
        f"onnx-{name}-between",
        lambda: pair(lambda s, x: s.b(s.op(s.c(x))), op=operation, b=norm(channels)),
        image,
        Expect(1),
        f"no tool folds through {name}",
        **rest,
    )


FORWARD = (
    case(
        "onnx-norm-conv-without-padding-grouped",
        lambda: nn.Sequential(norm(4), conv(4, 6, groups=2)),
        given((2, 4, 6, 7)),
        Expect(1),
        "each group reads its own slice of the scale",
    ),
    case(
        "onnx-norm-conv-zero-padding-grouped",
        lambda: nn.Sequential(norm(4), conv(4, 6, groups=2, padding=1)),
        given((2, 4, 6, 7)),
        Expect(1),
        "the scale moves, the shift differs at the border",
        sized=True,
    ),
    case(
        "onnx-norm-gemm",
        lambda: nn.Sequential(nn.BatchNorm1d(5, affine=False), nn.Linear(5, 3, bias=False)),
        given((4, 5)),
        Expect(1),
        "the shift makes a bias where there was none",
    ),
    case(
        "onnx-concatenation-norm",
        lambda: pair(
            lambda s, x: s.b(torch.cat([s.c(x), s.d(x), s.e(x)], dim=1)),
            d=conv(3, 1),
            e=conv(3, 2, groups=1, bias=False),
            b=norm(7),
        ),
        image,
        Expect(1),
        "three arms of three sizes",
        cites=("AIMET#2221", "opencv#14067"),
    ),
    case(
        "onnx-add-of-convolutions-norm",
        lambda: pair(lambda s, x: s.b(s.c(x) + s.d(x)), d=conv(3, 4)),
        image,
        Expect(1),
        "the scale goes to both arms, the shift to one",
    ),
)

BETWEEN = (
    between("average-pool", nn.AvgPool2d(2, 1)),
    between("max-pool-positive-scale", nn.MaxPool2d(2), then=positive_scale),
    case(
        "onnx-max-pool-mixed-signs-between",
        lambda: nn.Sequential(conv(3, 4), nn.MaxPool2d(2), norm(4)),
        image,
        Expect(0, ("no-linear-producer",)),
        "the maximum becomes the minimum where the scale is negative",
    ),
    case(
        "onnx-global-pool-flatten-between",
        lambda: pair(
            lambda s, x: s.b(torch.flatten(F.adaptive_avg_pool2d(s.c(x), 1), 1)),
            b=nn.BatchNorm1d(4),
        ),
        image,
        Expect(1),
        "the same as layers, written as functions",
    ),
    between("mean", lambda y: y.mean((2, 3), keepdim=True)),
    between("upsample-nearest", nn.Upsample(scale_factor=2)),
    between("upsample-bilinear", lambda y: F.interpolate(y, size=(9, 5), mode="bilinear")),
    between("pixel-shuffle", nn.PixelShuffle(2), channels=1),
    between("crop", lambda y: y[:, :, 1:]),
    between("channel-slice", lambda y: y[:, 1:], channels=3),
)

SEVERAL_READERS = (
    case(
        "onnx-conv-multi-user",
        lambda: pair(lambda s, x: _twice(s, s.c(x)), d=conv(4, 4, 1)),
        image,
        Expect(0, ("several-readers",)),
        "another convolution reads the value as it was",
    ),
    case(
        "onnx-conv-is-an-output",
        lambda: pair(lambda s, x: (lambda y: {"raw": y, "normed": s.b(y)})(s.c(x))),
        image,
        Expect(0, ("several-readers",)),
        "the caller reads the value as it was",
    ),
)


def _twice(self: Any, y: Tensor) -> Tensor:
    result: Tensor = self.b(y) * self.d(y).sigmoid()
    return result


CASES = (
    *FORWARD,
    *BETWEEN,
    *SEVERAL_READERS,
)
