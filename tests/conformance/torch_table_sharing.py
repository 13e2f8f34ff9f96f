"""Sharing, functional calls and modes: the other patterns PyTorch tools were measured on."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Expect, case
from tests.conformance.models import conv, given, image, net, norm, pair, sample

SQUARE = given((2, 3, 5, 6))


def leave_one_training(model: Any) -> None:
    """Put the second norm into training mode, as a forgotten call of train() does."""
    model[3].train()


def one_use_plain(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.c(self.b(self.c(x)))
    return result


def gated(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    result: Tensor = self.b(y) * torch.sigmoid(y)
    return result


def two_norms_of_one(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    result: Tensor = self.b(y) + self.d(y)
    return result


def functional_norm(self: Any, x: Tensor) -> Tensor:
    return F.batch_norm(self.c(x), self.mean, self.var, self.weight, self.bias)


def functional_conv(self: Any, x: Tensor) -> Tensor:
    y = F.conv2d(input=x, weight=self.w, bias=self.k, stride=2, padding=1)
    result: Tensor = self.b(y)
    return result


def branch_on_data(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    return y if y.sum() > 0 else -y


def writes_statistics(self: Any, x: Tensor) -> Tensor:
    self.b.running_mean.mul_(0.9)
    result: Tensor = self.b(self.c(x))
    return result


def writes_counter(self: Any, x: Tensor) -> Tensor:
    self.b.num_batches_tracked.add_(1)
    result: Tensor = self.b(self.c(x))
    return result


SHARED = (
    case(
        "table-one-conv-two-norms",
        lambda: net(lambda s, x, y: (s.b(s.c(x)), s.d(s.c(y))), c=conv(3, 4), b=norm(4), d=norm(4)),
        given((2, 3, 6, 7), (2, 3, 5, 5)),
        Expect(2),
        "each call site needs weights of its own",
    ),
    case(
        "table-one-pair-applied-twice",
        lambda: net(lambda s, x: s.b(s.c(s.b(s.c(x)))), c=conv(3, 3), b=norm(3)),
        SQUARE,
        Expect(2),
        "folding twice into one module scales twice",
    ),
    case(
        "table-norm-on-one-of-two-uses",
        lambda: net(one_use_plain, c=conv(3, 3, padding=1), b=norm(3)),
        SQUARE,
        Expect(1),
        "the plain use keeps the weight",
        cites=("pytorch#104593", "pytorch#197539"),
    ),
    case(
        "table-conv-read-by-norm-and-by-something-else",
        lambda: pair(gated),
        image,
        Expect(0, ("several-readers",)),
        "the gate needs the value as it was",
    ),
    case(
        "table-conv-read-by-two-norms",
        lambda: pair(two_norms_of_one, d=norm(4)),
        image,
        Expect(2),
        "a sum of two affines of one value is one affine",
    ),
    case(
        "table-parameters-also-read-in-forward",
        lambda: pair(lambda s, x: s.b(s.c(x)) * s.c.weight.sum() + s.c.bias.view(1, -1, 1, 1)),
        image,
        Expect(1),
        "what is read is the weight before folding",
    ),
)

FUNCTIONAL = (
    case(
        "table-conv-functional-norm",
        lambda: net(
            functional_norm,
            c=conv(3, 4),
            mean=sample(4),
            var=sample(4).abs() + 0.5,
            weight=nn.Parameter(sample(4, seed=2)),
            bias=nn.Parameter(sample(4, seed=3)),
        ),
        image,
        Expect(1),
        "no module says that this is a batch norm",
        cites=("pytorch#122070",),
    ),
    case(
        "table-functional-conv-by-keyword-norm",
        lambda: net(
            functional_conv,
            w=nn.Parameter(sample(4, 3, 3, 3)),
            k=nn.Parameter(sample(4)),
            b=norm(4),
        ),
        image,
        Expect(1),
        "no argument stands at its position",
        cites=("pytorch#196165",),
    ),
    case(
        "table-module-called-by-keyword",
        lambda: pair(lambda s, x: s.b(input=s.c(input=x))),
        image,
        Expect(1),
        "the value is no positional argument",
        cites=("pytorch#196165",),
    ),
    case(
        "table-conv-times-constant-plus-constant",
        lambda: net(
            lambda s, x: s.c(x) * s.k + s.t,
            c=conv(3, 4),
            k=sample(1, 4, 1, 1),
            t=sample(1, 4, 1, 1, seed=2),
        ),
        image,
        Expect(None, ops={"mul": 0, "add": 0}),
        "a frozen batch norm written by hand",
    ),
    case(
        "table-transposed-square-times-constant-plus-constant",
        lambda: net(
            lambda s, x: s.c(x) * s.k + s.t,
            c=nn.ConvTranspose2d(3, 3, 3),
            k=sample(1, 3, 1, 1),
            t=sample(1, 3, 1, 1, seed=2),
        ),
        image,
        Expect(None, ops={"mul": 0, "add": 0}),
        "a check of sizes cannot see the wrong axis of the weight",
    ),
)

ODD = (
    case(
        "table-defined-in-another-order-than-called",
        lambda: net(
            lambda s, x: s.b1(s.c1(s.b2(s.c2(x)))),
            c1=conv(3, 3),
            b2=norm(3),
            c2=conv(3, 3),
            b1=norm(3),
        ),
        SQUARE,
        Expect(2),
        "the order of attributes says nothing",
    ),
    case(
        "table-branch-on-data",
        lambda: pair(branch_on_data),
        image,
        Expect(0, ("not-captured",)),
        "no graph holds both branches",
        more=lambda: tuple(_calls(image()[0])),
        cites=("pytorch#87777",),
    ),
    case(
        "table-statistics-written-in-forward",
        lambda: pair(writes_statistics),
        image,
        Expect(0, ("written-constants",)),
        "the statistics change with each call",
        cites=("pytorch#121184",),
        watch=("b.running_mean",),
    ),
    case(
        "table-batch-counter-written-in-forward",
        lambda: pair(writes_counter),
        image,
        Expect(1),
        "no eval-mode norm reads the counter that is written",
        watch=("b.num_batches_tracked",),
    ),
    case(
        "table-one-norm-in-training-mode",
        lambda: nn.Sequential(conv(3, 4), norm(4), conv(4, 4, 1), norm(4)),
        image,
        Expect(1, ("training-mode",)),
        "it uses the statistics of the batch, and costs itself alone",
        then=leave_one_training,
    ),
)


def _calls(x: Tensor) -> Any:
    """Give calls that take either branch."""
    from tests.conformance.case import Call

    return (Call((x + shift,)) for shift in (-3.0, 3.0))


CASES = (*SHARED, *FUNCTIONAL, *ODD)
