"""The activations that a kernel applies to its result before it writes it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from torch import Tensor

_ONEDNN = {"relu6": "hardtanh", "silu": "swish"}


@dataclass(frozen=True, slots=True)
class Activation:
    """A function of single elements.

    Attributes:
        name: relu, relu6, hardtanh, leaky_relu, sigmoid, tanh, silu, hardswish, hardsigmoid or
            gelu.
        numbers: The bounds of hardtanh, or the slope of leaky_relu.
        approximate: For gelu, ``"none"`` or ``"tanh"``; else empty.
    """

    name: str
    numbers: tuple[float, ...] = ()
    approximate: str = ""

    def __str__(self) -> str:
        facts = [*map(str, self.numbers), *([self.approximate] if self.approximate else [])]
        return f"{self.name}({', '.join(facts)})" if facts else self.name

    @property
    def onednn(self) -> tuple[str, list[float], str]:
        """What oneDNN calls it, with its numbers and its algorithm.

        >>> Activation("relu6").onednn
        ('hardtanh', [0.0, 6.0], '')
        """
        numbers = [0.0, 6.0] if self.name == "relu6" else list(self.numbers)
        return _ONEDNN.get(self.name, self.name), numbers, self.approximate

    def plain(self, x: Tensor) -> Tensor:
        """Return what PyTorch's own operator makes of a tensor, as a new tensor.

        >>> Activation("hardtanh", (-1.0, 2.0)).plain(torch.tensor([-3.0, 3.0]))
        tensor([-1.,  2.])
        """
        if self.approximate:
            return F.gelu(x, approximate=self.approximate)
        return _PLAIN[self.name](x, *self.numbers)

    def written(self, x: Tensor) -> Tensor:
        """Return the same, written over a tensor that nothing else reads and no gradient needs."""
        function = _WRITTEN.get(self.name)
        return self.plain(x) if function is None else function(x, *self.numbers)


_PLAIN: Mapping[str, Callable[..., Tensor]] = {
    "relu": F.relu,
    "relu6": F.relu6,
    "hardtanh": F.hardtanh,
    "leaky_relu": F.leaky_relu,
    "sigmoid": torch.sigmoid,
    "tanh": torch.tanh,
    "silu": F.silu,
    "hardswish": F.hardswish,
    "hardsigmoid": F.hardsigmoid,
}
_WRITTEN: Mapping[str, Callable[..., Tensor]] = {
    "relu": torch.relu_,
    "hardtanh": torch.nn.functional.hardtanh_,
    "leaky_relu": torch.nn.functional.leaky_relu_,
    "sigmoid": torch.sigmoid_,
    "tanh": torch.tanh_,
}
NAMES = frozenset({*_PLAIN, "gelu"})
"""The names of all activations there are."""
