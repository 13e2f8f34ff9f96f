"""Layers, tensors and values with more than one reader, where most silent errors come from."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import conv, given, image, net, norm, pair

SQUARE = given((2, 3, 5, 6))
TWO = given((2, 3, 6, 7), (1, 3, 5, 4))


def plain_then_folded(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    z = self.b(self.c(y))
    result: Tensor = self.c(z)
    return result


def plain_and_normed(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    result: Tensor = self.b(y) + y
    return result


def two_branches(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    result: Tensor = self.b1(y) + self.b2(y)
    return result


def two_gated_branches(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    return F.relu(self.b1(y)) + torch.tanh(self.b2(y))


def three_levels(self: Any, x: Tensor, y: Tensor) -> list[Tensor]:
    return [n(self.c(v)) for n, v in zip(self.norms, (x, y, x), strict=True)]


def pyramid() -> nn.Module:
    return net(three_levels, c=conv(3, 4), norms=nn.ModuleList(norm(4) for _ in range(3)))


def one_storage_for_statistics() -> Any:
    """Return two pairs whose norms hold the same mean and variance tensors."""
    model: Any = net(
        lambda s, x: s.b2(s.c2(s.b1(s.c1(x)))), c1=conv(3, 3), b1=norm(3), c2=conv(3, 3), b2=norm(3)
    )
    model.b2.running_mean = model.b1.running_mean
    model.b2.running_var = model.b1.running_var
    return model


def tied_to_functional(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    return F.conv_transpose2d(y, self.c.weight)


def views_of_one_tensor() -> Any:
    """Return two convolutions whose weights are the halves of one tensor."""
    model: Any = pair(lambda s, x: (s.b(s.c(x)), s.d(x)), d=conv(3, 4))
    whole = torch.randn(8, 3, 3, 3, dtype=torch.float64)
    model.c.weight = nn.Parameter(whole[:4])
    model.d.weight = nn.Parameter(whole[4:])
    return model


def branches_of_input(self: Any, x: Tensor) -> Tensor:
    padded = F.pad(x, (1, 1, 1, 1))
    result: Tensor = self.b(self.c(padded)) * self.e(self.d(padded))
    return result


ONE_CONV = (
    case(
        "a1-one-conv-norm-on-one-of-its-two-uses",
        lambda: net(lambda s, x: s.c(s.b(s.c(x))), c=conv(3, 3, padding=1), b=norm(3)),
        SQUARE,
        Expect(1),
        "the plain use keeps the original weight, the folded one gets its own",
        cites=("pytorch#104593", "pytorch#197539"),
    ),
    case(
        "a1-plain-uses-before-and-after",
        lambda: net(plain_then_folded, c=conv(3, 3, padding=1), b=norm(3)),
        SQUARE,
        Expect(1),
        "two plain uses around the folded one",
        cites=("pytorch#104593",),
    ),
    case(
        "a2-one-conv-another-norm-per-use",
        lambda: net(
            lambda s, x, y: (s.b1(s.c(x)), s.b2(s.c(y))), c=conv(3, 4), b1=norm(4), b2=norm(4)
        ),
        TWO,
        Expect(2),
        "the heads of feature pyramids",
        cites=("onnx/optimizer#174", "torchao#2795"),
    ),
    case(
        "a2-one-conv-three-levels",
        pyramid,
        TWO,
        Expect(3),
        "three norms in a list, two levels of one size",
    ),
    case(
        "a3-one-pair-called-twice",
        lambda: net(lambda s, x: s.b(s.c(s.b(s.c(x)))), c=conv(3, 3), b=norm(3)),
        SQUARE,
        Expect(2),
        "each call site folds once, from the original statistics",
        cites=("pytorch#124286", "pytorch#124808", "TVM#1414"),
    ),
    case(
        "a3-siamese",
        lambda: pair(lambda s, x, y: s.b(s.c(x)) - s.b(s.c(y)).mean()),
        TWO,
        Expect(2),
        "two towers, one pair",
    ),
    case(
        "a3-one-norm-after-two-convs",
        lambda: pair(lambda s, x, y: (s.b(s.c(x)), s.b(s.d(y))), d=conv(3, 4, 1)),
        TWO,
        Expect(2),
        "one norm, two producers",
    ),
)

ONE_VALUE = (
    case(
        "a4-conv-read-again",
        lambda: pair(plain_and_normed),
        image,
        Expect(0, ("several-readers",)),
        "the second reader needs the value as it was, unless both are taken as one affine",
        cites=("executorch#20601",),
        also_right=(Expect(1),),
    ),
    case(
        "a5-one-conv-two-norm-branches",
        lambda: net(two_branches, c=conv(3, 4), b1=norm(4), b2=norm(4)),
        image,
        Expect(2),
        "a sum of two affines of one value is one affine",
    ),
    case(
        "a5-one-conv-two-norm-branches-with-activations",
        lambda: net(two_gated_branches, c=conv(3, 4), b1=norm(4), b2=norm(4)),
        image,
        Expect(0, ("several-readers", "several-readers")),
        "nothing combines behind activations",
        also_right=(Expect(2),),
    ),
    case(
        "a8-conv-is-an-output-too",
        lambda: pair(lambda s, x: (lambda y: (s.b(y), y))(s.c(x))),
        image,
        Expect(0, ("several-readers",)),
        "feature taps are read by the caller",
    ),
    case(
        "a8-shape-of-conv-is-read-too",
        lambda: pair(lambda s, x: (lambda y: s.b(y).reshape(y.shape[0], -1))(s.c(x))),
        image,
        Expect(1),
        "who asks for the shape does not read the value",
    ),
    case(
        "a8-norm-output-read-twice",
        lambda: pair(lambda s, x: (lambda z: (z, z.relu(), z))(s.b(s.c(x)))),
        image,
        Expect(1),
        "readers of the norm read the folded convolution",
    ),
)


def read_in_forward(name: str, forward: Any, why: str) -> Case:
    return case(
        f"a6-{name}", lambda: pair(forward), image, Expect(1), why, cites=("pytorch#104593",)
    )


PARAMETERS = (
    read_in_forward(
        "conv-bias-is-read",
        lambda s, x: s.b(s.c(x)) + s.c.bias.view(1, -1, 1, 1),
        "the bias that is read is the one before folding",
    ),
    read_in_forward(
        "conv-weight-is-read-by-a-functional-conv",
        lambda s, x: s.b(s.c(x)) + F.conv2d(x, s.c.weight),
        "the weight is used again",
    ),
    read_in_forward("weight-tied-to-a-decoder", tied_to_functional, "and by the transposed one"),
    read_in_forward(
        "weight-norm-penalty",
        lambda s, x: (s.b(s.c(x)), sum(p.square().sum() for p in s.parameters())),
        "all parameters are read, those of the norm too",
    ),
    read_in_forward(
        "statistics-are-read",
        lambda s, x: (s.b(s.c(x)), s.b.running_mean * 1.0, s.b.weight + s.b.running_var),
        "the norm goes, its tensors stay",
    ),
    read_in_forward(
        "weight-is-returned", lambda s, x: (s.b(s.c(x)), s.c.weight), "the caller gets the original"
    ),
    case(
        "a7-two-norms-hold-one-statistics-tensor",
        one_storage_for_statistics,
        given((2, 3, 7, 8)),
        Expect(2),
        "one storage, two readers",
        cites=("AIMET#3506",),
    ),
    case(
        "a7-one-pad-read-by-two-convs",
        lambda: pair(branches_of_input, d=conv(3, 4), e=norm(4)),
        image,
        Expect(2),
        "the padded value has two readers, which is no obstacle",
        cites=("OnnxSlim#29",),
    ),
    case(
        "a7-weights-are-views-of-one-tensor",
        views_of_one_tensor,
        image,
        Expect(1),
        "writing into the weight would write into the neighbour's",
    ),
)

CASES = (*ONE_CONV, *ONE_VALUE, *PARAMETERS)
