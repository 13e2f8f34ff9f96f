"""Owners that look at their parts, which folding inside the parts changes."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from tests.conformance.case import Expect
from tests.conformance.hostile_python import NOT_CAPTURED, python, with_block


def sums_child_weight(self: Any, x: Tensor) -> Tensor:
    result: Tensor = self.block(x) * self.block[0].weight.sum() + self.block[1].running_mean.mean()
    return result


def sums_child_weight_untraceable(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.block(x) * self.block[0].weight.sum()
    return y if y.sum() > 0 else -y


def asks_for_bias(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.block(x)
    if self.block[0].bias is None and y.sum() != 0:
        y = y + 1
    return y


def asks_for_norm(self: Any, x: Tensor) -> Tensor:
    for layer in self.block:
        x = layer(x)
        if isinstance(layer, nn.BatchNorm2d) and float(x.sum()) != 0:
            x = x.relu()
    return x


def counts_parameters(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.block(x)
    return y * len(list(self.parameters())) if float(y.sum()) != 0 else y


def reads_statistics_untraceable(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.block(x)
    return y - self.block[1].running_mean.sum() if float(y.sum()) != 0 else y


def layers_one_by_one(self: Any, x: Tensor) -> Tensor:
    y = self.block[0](x)
    y = y.clamp(min=float(y.min()))
    result: Tensor = self.block[1](y)
    return result


def part_called_whole_and_by_layers(self: Any, x: Tensor) -> Tensor:
    y: Tensor = self.block(x)
    z: Tensor = self.block[0](x)
    return y if float(y.sum()) == 0 else y - z


OPEN = (Expect(1), NOT_CAPTURED)

READERS = (
    python("child-weight-read", with_block(sums_child_weight), "the weight before folding",
           Expect(1)),
    python("child-weight-read-untraceable", with_block(sums_child_weight_untraceable),
           "a fold inside the child shows outside", *OPEN),
    python("child-bias-asked-for", with_block(asks_for_bias, bias=False),
           "a fold gives the child a bias", *OPEN),
    python("child-type-asked-for", with_block(asks_for_norm), "a fold takes the norm away",
           *OPEN[::-1], once=False),
    python("parameters-counted", with_block(counts_parameters), "a fold takes two away", *OPEN),
    python("child-statistics-read-untraceable", with_block(reads_statistics_untraceable),
           "a fold releases the statistics", *OPEN),
    python("child-called-layer-by-layer", with_block(layers_one_by_one),
           "the block is never called whole", *OPEN[::-1]),
    python("child-called-whole-and-in-part", with_block(part_called_whole_and_by_layers),
           "the same convolution with and without its norm", *OPEN),
)  # fmt: skip


CASES = (*READERS,)
