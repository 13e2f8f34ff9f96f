"""What a layer does to its result before it returns it."""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.kernels.activation import Activation

_PLAIN: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "add": operator.add,
    "iadd": operator.iadd,
    "mul": operator.mul,
    "imul": operator.imul,
}


@dataclass(frozen=True, slots=True)
class Epilogue:
    """A sum or a product with a second value, then an activation.

    Attributes:
        binary: ``"add"`` or ``"mul"``; ``"iadd"`` or ``"imul"`` where the result was written over,
            so that its shape and its dtype stay; empty for no second value.
        activation: The activation, or None.
    """

    binary: str = ""
    activation: Activation | None = None

    def __str__(self) -> str:
        parts = [f"binary={self.binary}"] if self.binary else []
        return ", ".join([*parts, *([f"activation={self.activation}"] if self.activation else [])])

    @property
    def is_empty(self) -> bool:
        """Whether it does nothing."""
        return not self.binary and self.activation is None

    def plain(self, y: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """Return the end of a layer as PyTorch's own operators compute it.

        Args:
            y: The result of the layer alone, which may be written over.
            others: The second value, if there is one.
        """
        for other in others:
            y = _PLAIN[self.binary](y, other)
        return y if self.activation is None else self.activation.plain(y)

    def written(self, y: Tensor, others: tuple[Tensor, ...]) -> Tensor:
        """Return the same, over the memory of ``y`` where that goes; no gradient is needed."""
        for other in others:
            fits = other.shape == y.shape and other.dtype is y.dtype
            function = {"add": y.add_, "mul": y.mul_}.get(self.binary.removeprefix("i"))
            y = function(other) if fits and function else _PLAIN[self.binary](y, other)
        return y if self.activation is None else self.activation.written(y)
