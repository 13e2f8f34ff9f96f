"""Norms before a convolution, after a concatenation, and behind operations that move values."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import conv, given, image, net, norm, pair, positive_scale

FOUR = given((2, 4, 6, 7))
KEPT = Expect(0, ("no-linear-producer",))


def before_conv(name: str, why: str, *, sized: bool = True, **options: Any) -> Case:
    """Return the case of a norm whose only reader is a convolution."""
    return case(
        f"b7-norm-then-conv-{name}",
        lambda: nn.Sequential(norm(4), conv(4, 6, **options)),
        FOUR,
        Expect(1),
        why,
        cites=("pytorch#144403", "ONE#4773", "TinyNeuralNetwork#318"),
        sized=sized,
    )


BEFORE = (
    before_conv("zero-padding", "the shift is missing where zeros are read", padding=1),
    before_conv("zero-padding-groups", "each group has its own border", padding=1, groups=2),
    before_conv("zero-padding-stride", "only some borders are read", padding=1, stride=2),
    before_conv("zero-padding-dilation", "two rings of border", padding=2, dilation=2),
    before_conv("zero-padding-one-axis", "the other axis reads none", padding=(0, 1)),
    before_conv("same-padding-even-kernel", "one side more", kernel=2, padding="same"),
    before_conv("same-padding-pointwise", "pads nothing", sized=False, kernel=1, padding="same"),
    before_conv("reflect", "exact", sized=False, padding=1, padding_mode="reflect"),
    before_conv("replicate", "exact", sized=False, padding=2, padding_mode="replicate"),
    before_conv("circular", "exact", sized=False, padding=1, padding_mode="circular"),
    case(
        "b7-norm-then-transposed-conv",
        lambda: nn.Sequential(norm(4), nn.ConvTranspose2d(4, 3, 3)),
        FOUR,
        Expect(1),
        "fewer taps at the border and more overlaps inside: the shift becomes a map",
        sized=True,
    ),
    case(
        "b7-norm-read-by-conv-and-by-the-caller",
        lambda: net(lambda s, x: (lambda y: (y, s.c(y)))(s.b(x)), b=norm(4), c=conv(4, 3)),
        FOUR,
        KEPT,
        "the caller reads what the norm makes",
        also_right=(Expect(0, ("several-readers",)),),
    ),
)


def joined(name: str, forward: Any, why: str, channels: int = 6, **rest: Any) -> Case:
    return case(
        f"b8-{name}",
        lambda: net(forward, c=conv(3, 4), d=conv(3, channels - 4), b=norm(channels)),
        image,
        rest.pop("expect", Expect(1)),
        why,
        cites=("AIMET#2221", "opencv#14067"),
        **rest,
    )


def joined_twice(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    result: Tensor = self.b(torch.cat([y, y], 1))
    return result


CONCATENATION = (
    joined(
        "concatenation",
        lambda s, x: s.b(torch.cat([s.c(x), s.d(x)], 1)),
        "split the affine by channels",
    ),
    case(
        "b8-concatenation-on-height",
        lambda: pair(lambda s, x: s.b(torch.cat([s.c(x), s.d(x)], 2)), d=conv(3, 4)),
        image,
        Expect(1),
        "the whole affine goes to each arm",
    ),
    joined(
        "concatenation-one-arm-is-the-input",
        lambda s, x: s.b(torch.cat([s.c(x), x[:, :, 1:-1, 1:-1]], 1)),
        "an arm without weights keeps an affine of its own",
        channels=7,
        expect=KEPT,
        also_right=(Expect(1), Expect(0, ("several-readers",))),
    ),
    joined(
        "concatenation-of-one-value-twice",
        joined_twice,
        "the one convolution cannot take two affines",
        channels=8,
        expect=KEPT,
        also_right=(Expect(1), Expect(0, ("several-readers",))),
    ),
    joined(
        "concatenation-then-relu-conv",
        lambda s, x: s.b(torch.cat((s.c(x), s.d(x)), dim=-3)).relu(),
        "the axis is counted from the end",
    ),
)


def between(name: str, operation: Any, why: str, channels: int = 4, **rest: Any) -> Case:
    """Return the case of an operation between a convolution and a norm; all pass the affine."""
    return case(
        f"b9-{name}",
        lambda: pair(lambda s, x: s.b(s.op(s.c(x))), op=operation, b=norm(channels)),
        image,
        rest.pop("expect", Expect(1)),
        why,
        **rest,
    )


def stays(name: str, operation: Any, why: str, **rest: Any) -> Case:
    """Return the case of an operation that lets no affine through as it is."""
    return between(name, operation, why, expect=KEPT, **rest)


def shuffle_channels(y: Tensor) -> Tensor:
    n, c, h, w = y.shape
    return y.view(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)


OPERATIONS = (
    stays(
        "average-pool-counting-padding",
        nn.AvgPool2d(2, padding=1),
        "the padded zeros count, so that a shift is smaller at the border",
        also_right=(Expect(1),),
    ),
    between(
        "average-pool-not-counting-padding",
        nn.AvgPool2d(2, padding=1, count_include_pad=False),
        "every output is a true mean",
    ),
    stays("max-pool-mixed-signs", nn.MaxPool2d(2), "a negative scale turns it into a minimum"),
    between("max-pool", nn.MaxPool2d(2), "positive scales keep the order", then=positive_scale),
    stays("relu-positive-scale", nn.ReLU(), "a shift does not pass", then=positive_scale),
    stays("sigmoid", nn.Sigmoid(), "nothing passes"),
    between("pixel-shuffle", nn.PixelShuffle(2), "four channels become one", channels=1),
    between(
        "channel-shuffle", shuffle_channels, "the affine takes the inverse permutation", sized=True
    ),
    between("nn-channel-shuffle", nn.ChannelShuffle(2), "likewise, as a layer"),
    between("upsample-nearest", nn.Upsample(scale_factor=2), "values are repeated"),
    between(
        "upsample-bicubic",
        lambda y: F.interpolate(y, scale_factor=2.0, mode="bicubic"),
        "weights sum to 1, negative ones included",
    ),
    between("contiguous", lambda y: y.contiguous(), "a copy at most"),
    between("view", lambda y: y.view(y.size(0), 4, -1, 1), "height and width become one axis"),
    between("flip", lambda y: y.flip(3), "columns change places"),
    between("cast-to-the-same-dtype", lambda y: y.to(torch.float64), "no cast at all"),
    case(
        "b9-global-pool-flatten-norm1d",
        lambda: nn.Sequential(conv(3, 8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.BatchNorm1d(8)),
        image,
        Expect(1),
        "one pixel per channel is left",
    ),
    case(
        "b9-flatten-norm1d-per-position",
        lambda: nn.Sequential(conv(3, 2), nn.Flatten(), nn.BatchNorm1d(40)),
        image,
        KEPT,
        "each position has its own scale, which no convolution writes",
    ),
)

CASES = (*BEFORE, *CONCATENATION, *OPERATIONS)
