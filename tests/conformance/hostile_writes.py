"""In-place operations and views: values written between their making and their use."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.conformance.case import Case, Expect, case
from tests.conformance.models import block, conv, image, net, norm, pair

WRITTEN = Expect(0, ("several-readers",))
NOT_NEXT = Expect(0, ("no-linear-producer",))


def adds_before_norm(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    y += x[:, :1, 1:-1, 1:-1]
    result: Tensor = self.b(y)
    return result


def relu_in_place_beside(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    y.relu_()
    result: Tensor = self.b(y)
    return result


def functional_relu_in_place(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    F.relu(y, inplace=True)
    result: Tensor = self.b(y)
    return result


def module_relu_in_place(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    self.r(y)
    result: Tensor = self.b(y)
    return result


def view_written_before(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    half = y[:, :2]
    half.mul_(2.0)
    result: Tensor = self.b(y)
    return result


def view_of_view_written(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    flat = y.view(y.size(0), -1)
    first = flat.select(1, 0)
    first.zero_()
    result: Tensor = self.b(y)
    return result


def item_set_before(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    y[:, 0] = 1.0
    result: Tensor = self.b(y)
    return result


def written_after(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    z: Tensor = self.b(y)
    y.add_(1.0)
    return z


def written_after_and_read(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.c(x)
    z: Tensor = self.b(y)
    y.add_(1.0)
    return z + y


def view_taken_early_written_late(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    view = y.flatten(2)
    z: Tensor = self.b(y)
    view.zero_()
    return z


def norm_output_written(self: Any, x: Tensor) -> Tensor:
    z: Tensor = self.b(self.c(x))
    z[:, 0] = 0.0
    z *= 2
    z.view(-1)[1] = 5.0
    return z


def norm_output_written_through_view(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    z: Tensor = self.b(self.c(x))
    head, _ = z.chunk(2, 1)
    head.neg_()
    return z, head


def input_written(self: Any, x: Tensor) -> Tensor:
    x.mul_(2.0)
    result: Tensor = self.b(self.c(x))
    return result


def input_written_after(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    x.relu_()
    return y + x[:, :1, 1:-1, 1:-1]


def out_argument(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    torch.add(y, 1.0, out=y)
    result: Tensor = self.b(y)
    return result


def residual_in_place(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.b(self.c(x))
    y += x
    return y


def alias_through_identity(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    y = self.c(x)
    z = self.drop(y)
    z += 1.0
    return self.b(y), z


def written_through_identity_after_norm(self: Any, x: Tensor) -> tuple[Tensor, Tensor]:
    z = self.b(self.c(x))
    same = self.drop(z)
    same.add_(1.0)
    return z, same


def swapped_in_place(self: Any, x: Tensor) -> Tensor:
    y = self.c(x)
    y[:, 0], y[:, 1] = y[:, 1].clone(), y[:, 0].clone()
    result: Tensor = self.b(y)
    return result


def accumulated(self: Any, x: Tensor) -> Tensor:
    total: Tensor = torch.zeros_like(x)
    for layer in self.layers:
        total += layer(x)
    return total


def written(
    name: str, forward: Any, why: str, expect: Expect, *others: Expect, **parts: Any
) -> Case:
    return case(
        f"write-{name}",
        lambda: pair(forward, **parts),
        image,
        expect,
        why,
        also_right=others or (NOT_NEXT, WRITTEN),
        grad_modes=(False,),  # with gradients autograd refuses some of these writes
    )


BETWEEN = (
    written("added-to-before-the-norm", adds_before_norm, "`+=` is an operation between", NOT_NEXT),
    written("relu-beside", relu_in_place_beside, "its result is not used, its effect is", WRITTEN),
    written("functional-relu-beside", functional_relu_in_place, "inplace is an option", WRITTEN),
    written("module-relu-beside", module_relu_in_place, "inplace is an attribute", WRITTEN,
            r=nn.ReLU(inplace=True)),
    written("view-before-the-norm", view_written_before, "half of it is doubled", WRITTEN),
    written("view-of-a-view-before-the-norm", view_of_view_written, "two steps away", WRITTEN),
    written("item-set-before-the-norm", item_set_before, "one channel is constant", WRITTEN),
    written("out-argument", out_argument, "the result goes into the input", WRITTEN),
    written("channels-swapped", swapped_in_place, "read and written in one statement", WRITTEN),
    written("through-dropout-that-is-off", alias_through_identity, "it returns its argument",
            WRITTEN, drop=nn.Dropout()),
)  # fmt: skip

AFTER = (
    written("after-the-norm-read-it", written_after, "too late to matter, unless it folds", WRITTEN,
            Expect(1)),
    written("after-the-norm-and-read-again", written_after_and_read, "both values count", WRITTEN),
    written("through-an-early-view", view_taken_early_written_late, "the view is older", WRITTEN,
            Expect(1)),
    written("norm-output", norm_output_written, "the result is fresh either way", Expect(1)),
    written("norm-output-through-a-view", norm_output_written_through_view,
            "the view and the value are one memory", Expect(1)),
    written("norm-output-through-dropout", written_through_identity_after_norm,
            "one memory, two names", Expect(1), drop=nn.Dropout()),
    written("residual", residual_in_place, "the sum is written into the folded value", Expect(1),
            c=conv(3, 3, padding=1), b=norm(3)),
)  # fmt: skip

INPUTS = (
    written("input-before", input_written, "the caller sees it", Expect(1)),
    written("input-after", input_written_after, "the caller sees it", Expect(1)),
    case(
        "write-relu-in-place-after-norm",
        lambda: nn.Sequential(block(), nn.ReLU(inplace=True), block(4, 4), nn.ReLU6(inplace=True)),
        image,
        Expect(2),
        "as most networks are written",
    ),
    case(
        "write-relu-in-place-on-the-input",
        lambda: nn.Sequential(nn.ReLU(inplace=True), *block()),
        image,
        Expect(1),
        "the caller sees it",
    ),
    case(
        "write-dropout-then-write",
        lambda: nn.Sequential(nn.Dropout(), nn.ReLU(inplace=True), *block()),
        image,
        Expect(1),
        "behind dropout that is off stands the caller's own tensor",
    ),
    case(
        "write-accumulated-in-a-loop",
        lambda: net(
            accumulated,
            layers=nn.ModuleList(block(3, 3, padding=1) for _ in range(3)),
        ),
        image,
        Expect(3),
        "the sum is written, what it reads is not",
    ),
)

CASES = (*BETWEEN, *AFTER, *INPUTS)
