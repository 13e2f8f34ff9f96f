"""What tools that fold ONNX files were measured on: constants, padding, merges."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import block, conv, given, image, net, norm, pair, sample
from tests.conformance.onnx_table import repvgg

NO_MUL = Expect(None, ops={"mul": 0})
NO_ADD = Expect(None, ops={"add": 0})
NO_AFFINE = Expect(None, ops={"mul": 0, "add": 0})
CHANNELS = (1, 4, 1, 1)


def by_hand(name: str, forward: Any, why: str, expect: Expect, **parts: Any) -> Case:
    """Return the case of an affine written as arithmetic after a convolution."""
    return case(
        f"onnx-{name}", lambda: pair(forward, b=nn.Identity(), **parts), image, expect, why,
    )  # fmt: skip


def along(name: str, layer: Any, shape: tuple[int, ...]) -> Case:
    """Return the case of a factor on an axis that only has the size of the channels."""
    return case(
        f"onnx-{name}",
        lambda: net(lambda s, x: s.c(x) * s.k, c=layer(3, 4, 3, padding=1), k=sample(*shape)),
        given((2, 3, 4, 4)),
        Expect(0, ops={"mul": 1}),
        "width, height and channels have one size: reason by axis",
    )


def shared_weight(forward: Any, **parts: Any) -> Any:
    """Return a model with two convolutions that hold one weight tensor."""
    model: Any = pair(forward, d=conv(3, 4), **parts)
    model.d.weight = model.c.weight
    return model


def zero_padded_maximum(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.b(self.c(F.max_pool2d(F.pad(-x.abs(), (1, 1, 1, 1)), 2)))
    return result


def zero_padded_average(self: Any, x: Tensor) -> Tensor:
    padded = F.pad(x, (1, 1, 1, 1))
    pooled = F.avg_pool2d(padded, 3, 2, padding=1, count_include_pad=False)
    result: Tensor = self.b(self.c(pooled))
    return result


def channels_last_affine(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.c(x).permute(0, 2, 3, 1) * self.k + self.t
    return y


def two_grouped() -> nn.Module:
    return net(
        lambda s, x: s.c(x) * s.k + s.t,
        c=nn.ConvTranspose2d(4, 6, 3, groups=2),
        k=sample(1, 6, 1, 1),
        t=sample(1, 6, 1, 1, seed=2),
    )


CONSTANTS = (
    by_hand(
        "conv-times-constant-per-channel",
        lambda s, x: s.c(x) * s.k,
        "a batch norm without a shift",
        NO_MUL,
        k=sample(*CHANNELS),
    ),
    by_hand(
        "conv-times-scalar",
        lambda s, x: s.c(x) * 0.7,
        "one factor for all channels",
        NO_MUL,
    ),
    by_hand(
        "constant-times-conv",
        lambda s, x: s.k * s.c(x),
        "the constant comes first",
        NO_MUL,
        k=sample(4, 1, 1),
    ),
    by_hand(
        "conv-plus-constant-per-channel",
        lambda s, x: s.c(x) + s.t,
        "a second bias",
        NO_ADD,
        t=sample(*CHANNELS),
    ),
    case(
        "onnx-conv-add-norm",
        lambda: pair(lambda s, x: s.b(s.c(x) + s.t), t=sample(4, 1, 1)),
        image,
        Expect(1, ops={"add": 0}),
        "the scale multiplies what was added too",
    ),
    case(
        "onnx-transposed-grouped-times-plus",
        two_grouped,
        given((2, 4, 3, 4)),
        NO_AFFINE,
        "output channels lie in groups",
    ),
    along("conv-times-constant-along-width", nn.Conv2d, (1, 1, 1, 4)),
    along("conv-times-constant-along-height", nn.Conv2d, (1, 1, 4, 1)),
    along("conv-times-vector", nn.Conv2d, (4,)),
    along("transposed-times-constant-along-width", nn.ConvTranspose2d, (1, 1, 1, 4)),
    case(
        "onnx-two-convs-share-a-weight",
        lambda: shared_weight(lambda s, x: (s.b(s.c(x)), s.e(s.d(x))), e=norm(4)),
        image,
        Expect(2),
        "each call site gets its own product",
    ),
    case(
        "onnx-two-convs-share-a-weight-scalar",
        lambda: shared_weight(lambda s, x: (s.c(x) * 0.5, s.d(x) * 3.0)),
        image,
        NO_MUL,
        "the second rewrite must not look for what the first one replaced",
    ),
    case(
        "onnx-norm-times-plus-alone",
        lambda: net(lambda s, x: s.b(x) * s.k + s.t, b=norm(3), k=sample(3, 1, 1), t=sample(1)),
        image,
        Expect(0, ("no-linear-producer",), ops={"mul": 0, "add": 0}),
        "two affines of an input are one affine",
        also_right=(Expect(1, ops={"mul": 1, "add": 1}),),
    ),
    case(
        "onnx-conv-channels-last-times-plus",
        lambda: net(channels_last_affine, c=conv(3, 4), k=sample(4), t=sample(4, seed=2)),
        image,
        NO_AFFINE,
        "after the permutation a vector is per channel",
    ),
)

PADDING = (
    case(
        "onnx-pad-conv-norm",
        lambda: pair(lambda s, x: s.b(s.c(F.pad(x, (1, 1, 1, 1))))),
        image,
        Expect(1),
        "what comes before the convolution is no obstacle",
    ),
    case(
        "onnx-pad-of-one-axis-conv-norm",
        lambda: pair(lambda s, x: s.b(s.c(F.pad(x, (0, 0, 2, 1), value=0.5)))),
        image,
        Expect(1),
        "padding of one axis, not symmetric, not zero",
        cites=("onnxscript#2838",),
    ),
    case(
        "onnx-zero-pad-max-pool-of-negatives",
        lambda: pair(zero_padded_maximum),
        image,
        Expect(1),
        "the zeros win against negative data, which the pool's own padding does not",
        cites=("onnx/optimizer#269", "onnxsim#290"),
    ),
    case(
        "onnx-zero-pad-average-pool-excluding-padding",
        lambda: pair(zero_padded_average),
        image,
        Expect(1),
        "zeros that were padded before count, the pool's own do not",
    ),
)

MERGES = (
    case(
        "onnx-repvgg-block",
        repvgg,
        given((2, 4, 5, 6)),
        Expect(3, ops={"convolution": 1}),
        "three branches with three norms are one convolution",
    ),
    case(
        "onnx-two-pointwise-convs",
        lambda: nn.Sequential(conv(4, 16, 1), norm(16), conv(16, 4, 1)),
        given((2, 4, 5, 6)),
        Expect(1, ops={"convolution": 1}),
        "the product of the two is smaller than either",
    ),
    case(
        "onnx-relu-between-pointwise-convs",
        lambda: nn.Sequential(block(4, 16), nn.ReLU(), conv(16, 4, 1)),
        given((2, 4, 5, 6)),
        Expect(1, ops={"convolution": 2}),
        "nothing merges across an activation",
    ),
    case(
        "onnx-concatenation-of-convs-norm-per-arm",
        lambda: pair(
            lambda s, x: torch.cat([s.b(s.c(x)), s.e(s.d(x))], 1), d=conv(3, 2), e=norm(2)
        ),
        image,
        Expect(2),
        "each arm has its own",
    ),
)

CASES = (*CONSTANTS, *PADDING, *MERGES)
