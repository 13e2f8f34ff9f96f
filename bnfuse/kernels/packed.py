"""The packed weight of a layer: made when first needed, and again when the weight has changed.

A packed weight is opaque: it cannot be copied, saved or moved. So it is no part of the layer but
kept beside it, and made from the plain weight, which stays what counts.

A weight has changed if another tensor stands in its place, if it was written in place, which
PyTorch counts, or if its memory is another. Writes that PyTorch itself does not count are not
seen: those through ``weight.data`` and through NumPy. Call ``bnfuse.kernels.release`` after such.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from bnfuse.kernels.prepared import Weights

if TYPE_CHECKING:
    from collections.abc import Callable

    Kernel = Callable[..., Tensor]
    """Runs a layer, given its input, its bias and what is combined with its result."""

_MOST_SHAPES = 64


@dataclass(slots=True, eq=False)
class Packed:
    """What was made of one state of a weight.

    Attributes:
        weight: The plain weight; held, so that its identity is not given to another.
        version: How often it had been written.
        pointer: Where its memory is.
        kernels: For each shape of input that came: what runs it, or None for plain operators.
        blocked: The weight as PyTorch's operators for oneDNN read it, once there is one.
        formats: The weight in the formats of oneDNN's own kernels.
    """

    weight: Tensor
    version: int
    pointer: int
    kernels: dict[torch.Size, Kernel | None] = field(default_factory=dict)
    blocked: Tensor | None = None
    formats: Weights = field(default_factory=Weights)

    def is_of(self, weight: Tensor) -> bool:
        """Whether a weight is still the one that this was made of."""
        return (
            self.weight is weight
            and self.version == weight._version
            and self.pointer == weight.data_ptr()
        )


class Cache:
    """Holds what was made of the weight of one layer, and makes it once for all threads.

    Attributes:
        packed: What was made, or None.
        last: The shape of the last input.
    """

    def __init__(self) -> None:
        self._lock = Lock()
        self.packed: Packed | None = None
        self.last: torch.Size | None = None

    def kernel(
        self, weight: Tensor, size: torch.Size, choose: Callable[[Packed], Kernel | None]
    ) -> Kernel | None:
        """Return what runs inputs of one shape, chosen at the first of them.

        Args:
            weight: The plain weight as it is now.
            size: The shape of the input.
            choose: Chooses a kernel, and may add a format to what was made.
        """
        packed, self.last = self.packed, size
        if packed is not None and packed.is_of(weight):
            found = packed.kernels.get(size, self)
            if found is not self:
                return found  # type: ignore[return-value]  # self stands for none
        if weight.is_inference() or type(weight) not in (nn.Parameter, Tensor):
            return None  # its writes are not counted, or it computes in a way of its own
        with self._lock:
            packed = self.packed
            if packed is None or not packed.is_of(weight):
                packed = Packed(weight, weight._version, weight.data_ptr())
            if size not in packed.kernels:
                if len(packed.kernels) >= _MOST_SHAPES:
                    packed.kernels = {}
                packed.kernels[size] = choose(packed)
            self.packed = packed
            return packed.kernels[size]

    def release(self) -> None:
        """Give up all that was made."""
        self.packed = None

    def __deepcopy__(self, _: object) -> Cache:
        """Return an empty one: packed weights cannot be copied."""
        return Cache()

    def __reduce__(self) -> tuple[type[Cache], tuple[()]]:
        """Pickle as an empty one."""
        return Cache, ()
