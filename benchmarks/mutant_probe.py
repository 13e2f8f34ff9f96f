"""Optimize small models that need every rule, and print what became of them as JSON.

``benchmarks/mutants.py`` runs it on copies of bnfuse with a mistake inside.
"""

from __future__ import annotations

import json
from collections import Counter

import torch
from torch import Tensor, nn

import bnfuse
from bnfuse.zoo import randomize_statistics


class Joined(nn.Module):
    """Two convolutions joined by an operation, and a batch norm behind it."""

    def __init__(self, how: str, channels: int) -> None:
        super().__init__()
        self.how = how
        self.one, self.other = nn.Conv2d(3, 4, 3), nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        """Return the batch norm of both."""
        one, other = self.one(x), self.other(x)
        made: Tensor = self.norm(torch.cat([one, other], 1) if self.how == "cat" else one + other)
        return made


class Difference(nn.Module):
    """A shift that goes down through a difference into a linear layer."""

    def __init__(self) -> None:
        super().__init__()
        self.shift, self.last = nn.Parameter(torch.randn(5)), nn.Linear(5, 4)

    def forward(self, x: Tensor) -> Tensor:
        """Return a linear layer of ``x`` less a shifted value."""
        made: Tensor = self.last(torch.tanh(x) - (torch.sigmoid(x) + self.shift))
        return made


class Permuted(nn.Module):
    """A batch norm behind a permutation of a convolution's result that is not its own inverse."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 7, 3), nn.BatchNorm2d(5)
        self.gain = nn.Parameter(torch.randn(7))

    def forward(self, x: Tensor) -> Tensor:
        """Return the result with its channels on the last axis, and scaled there."""
        return self.conv(x).permute(0, 2, 3, 1) * self.gain


class Branches(nn.Module):
    """A sum of convolutions of several sizes, a batch norm and the value itself."""

    def __init__(self) -> None:
        super().__init__()
        self.large, self.small = nn.Conv2d(4, 4, 3, padding=1), nn.Conv2d(4, 4, 1)
        self.norm = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        """Return the sum."""
        made: Tensor = self.large(x) + self.small(x) + self.norm(x) + x
        return made


def models() -> list[tuple[nn.Module, Tensor]]:
    """Return small models and an input for each."""
    image, vectors = torch.randn(2, 3, 8, 9), torch.randn(3, 5)
    wide = torch.randn(2, 4, 8, 9)
    norm = nn.BatchNorm2d
    return [
        (nn.Sequential(nn.Conv2d(3, 4, 3), norm(4)), image),
        (nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), norm(3)), image),
        (nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5)), vectors),
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), norm(6)), wide),
        (nn.Sequential(nn.Tanh(), norm(4), nn.Conv2d(4, 6, 3, groups=2)), wide),
        (nn.Sequential(nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 4)), vectors),
        (nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 3)), image),
        (Joined("cat", 8), image),
        (Joined("add", 4), image),
        (Difference(), vectors),
        (Permuted(), image),
        (Branches(), wide),
    ]


def main() -> None:
    """Print how many outputs are wrong, and which rewrites failed their check."""
    torch.manual_seed(0)
    wrong, undone = 0, Counter[str]()
    for given, x in models():
        model = randomize_statistics(given).double().eval()
        fused = bnfuse.optimize(model)
        with torch.no_grad():
            wanted, got = model(x.double()), fused(x.double())
        is_equal = got.shape == wanted.shape and torch.allclose(got, wanted, rtol=1e-9, atol=1e-9)
        wrong += not is_equal
        undone.update(row.by or "" for row in bnfuse.report(fused).undone)
    print(json.dumps({"wrong": wrong, "undone": undone}))


if __name__ == "__main__":
    main()
