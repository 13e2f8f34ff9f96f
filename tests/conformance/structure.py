"""Blocks that are re-parameterized by hand elsewhere: branches, chains, and classes of timm."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import block, conv, given, net, norm

FOUR = given((2, 4, 7, 8))


def three_branches(self: Any, x: Tensor) -> Tensor:
    return F.relu(self.b3(self.c3(x)) + self.b1(self.c1(x)) + self.b0(x))


def two_branches(self: Any, x: Tensor) -> Tensor:
    return F.relu(self.b3(self.c3(x)) + self.b1(self.c1(x)))


def repvgg(forward: Any = three_branches, **options: Any) -> nn.Module:
    """Return a block with a 3 x 3, a 1 x 1 and, where it is asked for, an identity branch."""
    shared = {key: value for key, value in options.items() if key in ("stride", "groups")}
    parts = {"b0": norm(4)} if forward is three_branches else {}
    return net(
        forward,
        c3=conv(4, 4, padding=1, bias=False, **options),
        b3=norm(4),
        c1=conv(4, 4, 1, bias=False, **shared),
        b1=norm(4),
        **parts,
    )


def merged(name: str, make: Any, why: str, gone: int = 3, **rest: Any) -> Case:
    """Return the case of parallel branches that are one convolution."""
    return case(
        f"f6-{name}",
        make,
        FOUR,
        Expect(gone, ops={"convolution": 1}),
        why,
        **rest,
    )


def acnet(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.b(self.c(x)) + self.e(self.d(x)) + self.g(self.f(x))
    return result


def cross() -> nn.Module:
    """Return the sum of a square, a horizontal and a vertical kernel."""
    return net(
        acnet,
        c=conv(4, 4, 3, padding=1), b=norm(4),
        d=conv(4, 4, (1, 3), padding=(0, 1)), e=norm(4),
        f=conv(4, 4, (3, 1), padding=(1, 0)), g=norm(4),
    )  # fmt: skip


def misaligned() -> nn.Module:
    """Return two branches whose sizes agree and whose kernels do not lie over each other."""
    return net(
        lambda s, x: s.b(s.c(x)) + s.e(s.d(F.pad(x, (1, 0, 1, 0))[:, :, :-1, :-1])),
        c=conv(4, 4, padding=1), b=norm(4), d=conv(4, 4, padding=1), e=norm(4),
    )  # fmt: skip


def levit_conv_norm() -> nn.Module:
    from timm.models.levit import ConvNorm

    return ConvNorm(4, 8, 3, stride=2, padding=1, groups=2)


def levit_linear_norm() -> nn.Module:
    from timm.models.levit import LinearNorm

    return LinearNorm(5, 6)


def repvit_depthwise() -> nn.Module:
    from timm.models.repvit import RepVggDw

    return RepVggDw(4, 5)


def repvit_depthwise_usual() -> nn.Module:
    from timm.models.repvit import RepVggDw

    return RepVggDw(4, 3)


def mobileone() -> nn.Module:
    from timm.models.byobnet import MobileOneBlock

    return MobileOneBlock(4, 4, num_conv_branches=2)


def deep() -> nn.Module:
    return nn.Sequential(*(layer for _ in range(12) for layer in (*block(4, 4), nn.ReLU())))


CLASSES = (
    case(
        "f1-levit-conv-norm-with-groups",
        levit_conv_norm,
        FOUR,
        Expect(1),
        "its own fuse forgets the groups",
        cites=("LeViT#22",),
    ),
    case(
        "f2-levit-linear-norm-in-double",
        levit_linear_norm,
        given((2, 4, 5)),
        Expect(1),
        "its own fuse makes single precision",
    ),
    case(
        "f2-levit-conv-norm-in-half",
        levit_conv_norm,
        given((2, 4, 7, 8), dtype=torch.float16),
        Expect(1),
        "its own fuse makes single precision",
        dtype=torch.float16,
        rtol=1e-2,
    ),
    case(
        "f3-repvit-depthwise-kernel-of-five",
        repvit_depthwise,
        FOUR,
        Expect(2),
        "its own fuse takes kernels of three for granted",
    ),
    case(
        "f3-repvit-depthwise",
        repvit_depthwise_usual,
        FOUR,
        Expect(2),
        "a norm over the sum of three branches",
    ),
    case(
        "f4-deep-network",
        deep,
        given((1, 4, 30, 31)),
        Expect(12),
        "errors do not add up",
        cites=("RepVGG#111", "OREPA#11", "pytorch#145043"),
    ),
)


def chain(name: str, make: Any, why: str, expect: Expect, **rest: Any) -> Case:
    return case(f"f5-{name}", make, FOUR, expect, why, cites=("AMDMIGraphX#394",), **rest)


CHAINS = (
    chain(
        "pointwise-with-bias-into-zero-padded-conv",
        lambda: nn.Sequential(conv(4, 8, 1), conv(8, 4, padding=1)),
        "the bias of the first must not leak into the border",
        Expect(0),
    ),
    chain(
        "pointwise-norm-into-zero-padded-conv-norm",
        lambda: nn.Sequential(block(4, 8, kernel=1), block(8, 4, padding=1)),
        "likewise with norms",
        Expect(2),
    ),
    chain(
        "conv-norm-into-pointwise",
        lambda: nn.Sequential(block(4, 16), conv(16, 4, 1)),
        "one convolution is cheaper than the two",
        Expect(1, ops={"convolution": 1}),
    ),
    chain(
        "two-zero-padded-convs",
        lambda: nn.Sequential(block(4, 4, padding=1), block(4, 4, padding=1)),
        "these two are no larger kernel at the border",
        Expect(2, ops={"convolution": 2}),
    ),
    chain(
        "conv-norm-then-average-pool",
        lambda: nn.Sequential(block(4, 4, kernel=1), nn.AvgPool2d(3, 1, padding=1)),
        "the bias counts less where padding is averaged in",
        Expect(1),
    ),
)

BRANCHES = (
    merged("repvgg", repvgg, "three branches are one convolution"),
    merged("repvgg-two-groups", lambda: repvgg(groups=2), "the identity lies inside its group"),
    merged("repvgg-depthwise", lambda: repvgg(groups=4), "one channel per group"),
    merged(
        "repvgg-stride-two",
        lambda: repvgg(two_branches, stride=2),
        "no identity branch here",
        gone=2,
    ),
    merged(
        "repvgg-reflect",
        lambda: repvgg(padding_mode="reflect"),
        "the padding mode of the large kernel stays",
    ),
    merged("cross-shaped-kernels", cross, "kernels that are not square lie on their own axis"),
    merged("mobileone-block", mobileone, "two large kernels, a small one and an identity", gone=4),
    case(
        "f6-repvgg-dilated-branch",
        lambda: net(
            two_branches,
            c3=conv(4, 4, padding=2, dilation=2, bias=False),
            b3=norm(4),
            c1=conv(4, 4, 1),
            b1=norm(4),
        ),
        FOUR,
        Expect(2),
        "the small kernel lies on the middle tap",
    ),
    case(
        "f6-branches-that-do-not-align",
        misaligned,
        FOUR,
        Expect(2, ops={"convolution": 2}),
        "equal sizes prove nothing",
    ),
    case(
        "f6-norm-alone-on-the-identity",
        lambda: net(
            lambda s, x: s.b(s.c(x)) + s.e(x.relu()), c=conv(4, 4, padding=1), b=norm(4), e=norm(4)
        ),
        FOUR,
        Expect(1, ("no-linear-producer",)),
        "the branches do not read the same value",
    ),
)

CASES = (*CLASSES, *CHAINS, *BRANCHES)
