"""Padding before a convolution, between it and its norm, and no batch axis at all."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.axes import KEPT
from tests.conformance.case import Call, Expect, case
from tests.conformance.models import given, image, norm, pair, positive_scale


def maximum_of_zero_padded(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.b(F.max_pool2d(F.pad(self.c(x), (1, 1, 1, 1)), 2))
    return result


PADDING = (
    case(
        "b6-zero-pad-before-max-pool-of-negatives",
        lambda: pair(lambda s, x: s.b(s.c(F.max_pool2d(F.pad(-x.abs(), (1, 1, 1, 1)), 2)))),
        image,
        Expect(1),
        "the pad does not move into the pool",
        cites=("onnx/optimizer#269", "onnxsim#290"),
    ),
    case(
        "b6-zero-pad-before-conv",
        lambda: pair(lambda s, x: s.b(s.c(F.pad(x, (1, 1, 1, 1))))),
        image,
        Expect(1),
        "the pad may move into the convolution, or stay",
    ),
    case(
        "b6-negative-pad-before-conv",
        lambda: pair(lambda s, x: s.b(s.c(F.pad(x, (-1, 0, 0, -2))))),
        image,
        Expect(1),
        "a negative pad is a crop, which no convolution does",
        cites=("onnxscript#2838",),
    ),
    case(
        "b6-zero-pad-between-conv-and-norm",
        lambda: pair(lambda s, x: s.b(F.pad(s.c(x), (1, 1, 1, 1)))),
        image,
        KEPT,
        "the border becomes the shift, which no bias writes",
    ),
    case(
        "b6-zero-pad-and-max-pool-between",
        lambda: pair(maximum_of_zero_padded),
        image,
        KEPT,
        "zeros take part in the maximum, before the shift",
        then=positive_scale,
    ),
    case(
        "b6-reflect-pad-between-conv-and-norm",
        lambda: pair(lambda s, x: s.b(F.pad(s.c(x), (1, 1, 1, 1), mode="reflect"))),
        image,
        Expect(1),
        "what is reflected is normalized as well before as after",
    ),
    case(
        "b6-channel-pad-between-conv-and-norm",
        lambda: pair(lambda s, x: s.b(F.pad(s.c(x), (0, 0, 0, 0, 0, 2))), b=norm(6)),
        image,
        KEPT,
        "the new channels hold the shift",
    ),
)

UNBATCHED = (
    case(
        "b1-conv1d-without-batch-axis",
        lambda: nn.Sequential(nn.Conv1d(3, 4, 3, padding=1), nn.BatchNorm1d(4)),
        given((2, 3, 4)),
        Expect(1),
        "two axes are a batch to the norm and channels to the convolution, and both run",
        more=lambda: (Call((torch.ones(3, 4, dtype=torch.float64),)),),
        may_refuse=True,
    ),
)


CASES = (
    *PADDING,
    *UNBATCHED,
)
