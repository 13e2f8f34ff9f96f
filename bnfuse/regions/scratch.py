"""Memory for the float64 weights of one region after another.

A check makes float64 copies of a few weights and drops them, and between two checks passes make
weights that stay. In the C library's heap those would tear holes for these: it was twice the model
for ResNet-50. So large copies have memory of their own, the same for all checks: 32 MB, which the
library takes from the system and gives back, and of which only what is written is really taken.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING

import torch

from bnfuse.affine import as_float64, few_rows
from bnfuse.memory import give_back
from bnfuse.regions.convolution import MOST

if TYPE_CHECKING:
    from torch import Tensor

_ALIGNMENT = 8
_GIVEN_BACK_AFTER = 1 << 22


@dataclass(slots=True)
class Scratch:
    """Float64 memory that is used again and again: what was taken before ``clear`` is overwritten.

    Attributes:
        buffer: The memory, made when it is first needed.
        used: How many elements were taken.
        passed: How many went since free memory was given back.
    """

    buffer: Tensor | None = None
    used: int = 0
    passed: int = 0

    def clear(self) -> None:
        """Let all be taken again; now and then, give back what the heap holds beside."""
        self.passed += self.used
        self.used = 0
        if self.passed > _GIVEN_BACK_AFTER:
            self.passed = 0
            give_back()

    def take(self, shape: torch.Size) -> Tensor:
        """Return memory for a tensor, its own where there is no room."""
        if self.buffer is None:
            self.buffer = torch.empty(MOST + _ALIGNMENT, dtype=torch.float64)
        first, count = self.used, prod(shape)
        if first + count > self.buffer.numel():
            return torch.empty(shape, dtype=torch.float64)
        self.used += -(-count // _ALIGNMENT) * _ALIGNMENT
        return self.buffer[first : first + count].view(shape)

    def widened(self, tensor: Tensor) -> Tensor:
        """Return a tensor of the model in float64, or what it was rounded from, on the CPU."""
        wide = self.take(tensor.shape)
        for rows in few_rows(tensor):
            wide[rows] = as_float64(tensor, rows)
        return wide
