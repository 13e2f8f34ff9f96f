"""Models of any size, with four channels: chains, and graphs with many readers, arms or branches.

Each function takes about how many operations the graph is to have.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

CHANNELS = 4


def norm(channels: int = CHANNELS) -> nn.BatchNorm2d:
    """Return a batch norm that is not the identity."""
    made = nn.BatchNorm2d(channels)
    made.running_mean = torch.empty(channels).uniform_(-0.5, 0.5)
    made.running_var = torch.empty(channels).uniform_(0.5, 2.0)
    nn.init.uniform_(made.weight, 0.5, 1.5)
    nn.init.uniform_(made.bias, -0.5, 0.5)
    return made


def conv(kernel: int = 1) -> nn.Conv2d:
    """Return a convolution that keeps the shape."""
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=kernel // 2)


def conv_chain(operations: int) -> nn.Module:
    """conv, bn and relu, over and over: every batch norm folds into the layer before it."""
    layers = [layer for _ in range(operations // 3) for layer in (conv(), norm(), nn.ReLU())]
    return nn.Sequential(*layers)


def pool_chain(operations: int) -> nn.Module:
    """Batch norms that pass eight poolings and find nothing but an activation on either side."""
    layers: list[nn.Module] = []
    while len(layers) < operations:
        pools = [nn.AvgPool2d(1) for _ in range(8)]
        layers += [nn.GELU(), *pools[:4], norm(), *pools[4:]]
    return nn.Sequential(*layers)


class Between(nn.Module):
    """Batch norms between sums, poolings and concatenations, and no layer with weights."""

    def __init__(self, operations: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(norm() for _ in range(operations // 9))

    def forward(self, x: Tensor) -> Tensor:
        """Return a value of the shape of ``x``."""
        for one in self.norms:
            y = torch.relu(one(x))
            left, right = y.chunk(2, 1)
            y = torch.cat((right, left), 1)
            x = nn.functional.max_pool2d(y + x, 1) + 1.5
        return x


class Residual(nn.Module):
    """Residual blocks."""

    def __init__(self, operations: int) -> None:
        super().__init__()
        bodies = ((conv(3), norm(), nn.ReLU(), conv(3), norm()) for _ in range(operations // 7))
        self.blocks = nn.ModuleList(nn.Sequential(*body) for body in bodies)

    def forward(self, x: Tensor) -> Tensor:
        """Return a value of the shape of ``x``."""
        for block in self.blocks:
            x = torch.relu(block(x) + x)
        return x


class Arms(nn.Module):
    """One concatenation of all, and a batch norm behind it that goes into each arm."""

    def __init__(self, operations: int) -> None:
        super().__init__()
        count = operations // 2
        self.arms = nn.ModuleList(nn.Sequential(conv(), norm()) for _ in range(count))
        self.norm = norm(CHANNELS * count)

    def forward(self, x: Tensor) -> Tensor:
        """Return all arms."""
        joined: Tensor = self.norm(torch.cat([arm(x) for arm in self.arms], 1))
        return joined


class Concatenations(nn.Module):
    """Concatenations of sixteen arms, each with a batch norm behind it."""

    def __init__(self, operations: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(Arms(32) for _ in range(operations // 35))

    def forward(self, x: Tensor) -> Tensor:
        """Return a value of the shape of ``x``."""
        for stage in self.stages:
            x = stage(x)[:, :CHANNELS]
        return x


class Readers(nn.Module):
    """One value that many batch norms read, each with a layer behind it or none."""

    def __init__(self, operations: int, last: Callable[[], nn.Module]) -> None:
        super().__init__()
        self.first = conv()
        arms = ((norm(), last()) for _ in range(operations // 2))
        self.arms = nn.ModuleList(nn.Sequential(*arm) for arm in arms)

    def forward(self, x: Tensor) -> Tensor:
        """Return all arms."""
        x = self.first(x)
        return torch.cat([arm(x) for arm in self.arms], 1)


class Branches(nn.Module):
    """Sums of parallel convolutions with batch norms, three or many."""

    def __init__(self, operations: int, arms: int) -> None:
        super().__init__()
        self.stages = nn.ModuleList(
            nn.ModuleList(nn.Sequential(conv(kernel % 2 * 2 + 1), norm()) for kernel in range(arms))
            for _ in range(max(operations // (3 * arms), 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        """Return a value of the shape of ``x``."""
        for stage in self.stages:
            y = stage[0](x)  # type: ignore[index]  # a list of modules
            for branch in list(stage)[1:]:  # type: ignore[call-overload]  # likewise
                y = y + branch(x)
            x = torch.relu(y)
        return x


MODELS: dict[str, Callable[[int], nn.Module]] = {
    "chain of conv, bn, relu": conv_chain,
    "chain of bn and poolings": pool_chain,
    "bn between add, cat, pool": Between,
    "residual blocks": Residual,
    "concatenations of 16": Concatenations,
    "one concatenation of all": Arms,
    "a value read by all bn": lambda count: Readers(count, conv),
    "the same, nothing absorbs": lambda count: Readers(count, nn.GELU),
    "sums of 3 branches": lambda count: Branches(count, 3),
    "one sum of all branches": lambda count: Branches(count, count // 3),
}
