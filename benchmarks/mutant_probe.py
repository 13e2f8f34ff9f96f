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
        self.first, self.last = nn.Linear(5, 6), nn.Linear(6, 4)
        self.shift = nn.Parameter(torch.randn(6))

    def forward(self, x: Tensor) -> Tensor:
        """Return a linear layer of one value less another, shifted one."""
        x = self.first(x.flatten(1))
        made: Tensor = self.last(torch.tanh(x) - (torch.sigmoid(x) + self.shift))
        return made


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
    norm, _pooled = nn.BatchNorm2d, (nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten())
    return [
        (nn.Sequential(nn.Conv2d(3, 4, 3), norm(4)), image),
        (nn.Sequential(nn.Conv2d(3, 3, 3, bias=False), norm(3)), image),
        (nn.Sequential(nn.Linear(5, 5), nn.BatchNorm1d(5)), vectors),
        (nn.Sequential(nn.ConvTranspose2d(4, 6, 3, groups=2), norm(6)), wide),
        (nn.Sequential(nn.Tanh(), norm(4), nn.Conv2d(4, 6, 3, groups=2)), wide),
        (nn.Sequential(nn.Tanh(), nn.BatchNorm1d(5), nn.Linear(5, 4)), vectors),
        (nn.Sequential(nn.Conv2d(3, 12, 1), nn.Conv2d(12, 4, 3)), image),
        (
            nn.Sequential(
                nn.Tanh(), norm(3), nn.AdaptiveAvgPool2d((2, 3)), nn.Flatten(), nn.Linear(18, 4)
            ),
            image,
        ),
        (Joined("cat", 8), image),
        (Joined("add", 4), image),
        (Difference(), vectors),
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
