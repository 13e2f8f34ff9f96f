"""Compiles the kernel of an epilogue, and launches it: directly, or as Triton does.

Triton's own call looks at every argument, finds the kernel for them and launches it, in 15 to 30
microseconds of the processor; PyTorch launches an operator in 5. A compiled kernel has a launcher
that does the last step alone, in about 5. It is not documented, so ``triton_probe`` tries it first.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.kernels.activation import Activation

    Launch = Callable[[tuple[Tensor, ...], tuple[int, ...]], object]
    """Given result, bias and second value, and where they are in memory."""

BYTES = 16
"""What a thread moves at once."""
ELEMENTS = 1024
"""What a program writes."""
WARPS = 4


class Variant(NamedTuple):
    """What a compiled kernel depends on.

    Attributes:
        device: The number of the GPU.
        dtype: That of the result.
        activation: The activation, or None.
        binary: ``"add"``, ``"mul"`` or empty.
        has_bias: Whether a bias is added.
        is_last: Whether the result lies channels last.
        width: How many elements are taken together.
    """

    device: int
    dtype: torch.dtype
    activation: Activation | None
    binary: str
    has_bias: bool
    is_last: bool
    width: int


class Sizes(NamedTuple):
    """What else a launch depends on, fixed by the shape of the result.

    Attributes:
        programs: How many programs run.
        groups: How many groups of ``Variant.width`` elements there are.
        period: How many of them share a channel or, channels last, make a pixel.
        channels: How many channels there are.
    """

    programs: int
    groups: int
    period: int
    channels: int


def width(period: int, itemsize: int) -> int:
    """Return how many elements to take together, so that they lie in one period.

    >>> width(24, 2), width(49, 2), width(196, 2)
    (8, 1, 4)
    """
    return gcd(period, BYTES // itemsize)


def sizes(variant: Variant, elements: int, period: int, channels: int) -> Sizes:
    """Return the sizes of a launch.

    Args:
        variant: The kernel.
        elements: The elements of the result.
        period: How many elements share a channel or, channels last, make a pixel.
        channels: How many channels there are.
    """
    at_once = variant.width
    programs = -(-elements // ELEMENTS)
    return Sizes(programs, elements // at_once, period // at_once, channels)


@dataclass(frozen=True, slots=True)
class Compiled:
    """A kernel, and its two ways to be launched.

    Attributes:
        function: The kernel as Triton's own call takes it.
        kernel: What that call compiled.
        constants: The arguments that it is compiled for.
        numbers: Those of the activation.
        device: The number of the GPU.
    """

    function: Any
    kernel: Any
    constants: tuple[Any, ...]
    numbers: tuple[float, float]
    device: int

    def by_triton(self, sizes: Sizes) -> Launch:
        """Return what launches it by Triton's own call."""
        call = self.function[(sizes.programs,)]
        rest = (*sizes[1:], *self.numbers, *self.constants)
        return lambda tensors, _: call(*tensors, *rest, num_warps=WARPS)

    def directly(self, sizes: Sizes) -> Launch:
        """Return what launches it by its launcher, on the current stream of its GPU."""
        kernel, device = self.kernel, self.device
        run, function, metadata = kernel.run, kernel.function, kernel.packed_metadata
        stream = torch._C._cuda_getCurrentRawStream
        programs, *others = sizes
        rest = (*others, *self.numbers, *self.constants)

        def launch(_: tuple[Tensor, ...], pointers: tuple[int, ...]) -> None:
            at = stream(device)
            run(programs, 1, 1, at, function, metadata, None, None, None, *pointers, *rest)

        return launch


def compiled(variant: Variant) -> Compiled:
    """Compile a kernel by a call with a tensor of one group, on the current GPU.

    Raises:
        Exception: Whatever Triton raises, if it cannot.
    """
    from bnfuse.kernels.triton_activations import formula
    from bnfuse.kernels.triton_epilogue import epilogue_kernel

    activation = variant.activation
    given = activation.numbers if activation is not None else ()
    a, b = (*given, 0.0, 0.0)[:2]
    constants = (formula(activation), *variant[3:], ELEMENTS // variant.width)
    y = torch.zeros(variant.width, dtype=variant.dtype, device=torch.device("cuda", variant.device))
    kernel = epilogue_kernel[(1,)](y, y, y, 1, 1, 1, a, b, *constants, num_warps=WARPS)
    return Compiled(epilogue_kernel, kernel, constants, (a, b), variant.device)
