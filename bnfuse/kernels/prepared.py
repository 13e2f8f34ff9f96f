"""Computations of oneDNN prepared for one shape: made once, then run on any memory.

::

    y = activation(conv(x) + other)      one call of a kernel, 5 µs to start

The weight is laid out as the kernel reads it, once for all shapes where that goes. What a run
writes belongs to that run alone, so that threads share a computation.
"""

from __future__ import annotations

import ctypes
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.kernels.library import Library, Owned, UnsupportedError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

    from bnfuse.kernels.epilogue import Epilogue

DTYPES = {torch.float16: 1, torch.bfloat16: 2, torch.float32: 3}
"""The number of each dtype."""
SOURCE, RESULT, WEIGHT, BIAS, SCRATCH = 1, 17, 33, 41, 80
OTHER = (1 << 15) | 2
"""The numbers of arguments; this one is the second operand of the first post-operation."""
_WEIGHT_FORMAT, _SCRATCH_FORMAT = 131, 136


class _Argument(ctypes.Structure):
    """One argument of a computation, as the library takes it."""

    _fields_ = (("number", ctypes.c_int), ("memory", ctypes.c_void_p))


@dataclass(frozen=True, slots=True)
class Layout:
    """How a tensor lies in memory.

    Attributes:
        shape: Its shape.
        strides: Its strides, in elements.
    """

    shape: tuple[int, ...]
    strides: tuple[int, ...]

    @classmethod
    def of(cls, x: Tensor) -> Layout:
        """Return the layout of a tensor."""
        return cls(tuple(x.shape), x.stride())


@dataclass(frozen=True, slots=True)
class Problem:
    """What is to be prepared.

    Attributes:
        source: The input.
        result: The result; a second operand lies as it does.
        weight: The weight, its axes as the library has them.
        has_bias: Whether a bias is added.
        epilogue: What follows.
    """

    source: Layout
    result: Layout
    weight: Tensor
    has_bias: bool
    epilogue: Epilogue


@dataclass(frozen=True, slots=True)
class _Run:
    """What one run at a time writes to: memory objects by argument, and all of them as one."""

    memory: Mapping[int, int]
    arguments: Any
    address: int
    stream: int
    held: list[Owned]


class _Scratch(threading.local):
    """Scratch memory of a thread, as large as any of its computations has needed."""

    memory: Tensor | None = None

    def bytes(self, size: int) -> Tensor:
        """Return so many bytes; who uses them holds them, for a larger piece may take their place.

        A signal's handler may run a model in the middle of another run of the same thread.
        """
        memory = self.memory
        if memory is None or memory.numel() < size:
            memory = self.memory = torch.empty(size, dtype=torch.uint8, device="cpu")
        return memory


_SCRATCH = _Scratch()


class Weights:
    """One weight in the formats that its kernels read, each made once."""

    def __init__(self) -> None:
        self._made: list[tuple[Owned, Tensor]] = []

    def __len__(self) -> int:
        """Return how many formats there are."""
        return len(self._made)

    def laid_out(self, library: Library, weight: Tensor, wanted: Owned) -> Tensor:
        """Return the bytes of the weight in a format."""
        for known, made in self._made:
            if library.is_same(known, wanted):
                return made
        made = torch.empty(library.size(wanted), dtype=torch.uint8, device="cpu")
        plain = library.layout(weight.shape, weight.stride(), DTYPES[weight.dtype])
        sides = (plain, library.engine, wanted, library.engine, None)
        copy = library.made("primitive", library.made("reorder_primitive_desc", *sides))
        memories = {
            SOURCE: library.memory(plain, weight.data_ptr()),
            RESULT: library.memory(wanted, made.data_ptr()),
        }
        stream = library.stream()
        library.call("primitive_execute", copy, stream, 2, _arguments(memories))
        self._made.append((wanted, made))
        return made


class Prepared:
    """A computation that is ready to run.

    Attributes:
        result: The layout of its result.
        kernel: The name of its kernel.
        threads: For how many threads it was prepared.
    """

    def __init__(
        self,
        library: Library,
        description: Owned,
        layouts: Mapping[int, Owned],
        problem: Problem,
        weights: Weights,
        slow: frozenset[str],
    ) -> None:
        """Prepare what was described.

        Args:
            library: What is to run it.
            description: What the library made of the problem.
            layouts: Those of its operands, by the numbers of arguments.
            problem: The problem.
            weights: Where the formats of its weight are kept.
            slow: What the names of kernels have in them that are not to run.

        Raises:
            UnsupportedError: The library has no kernel for it but a slow one.
        """
        self.kernel = library.kernel(description)
        if not slow.isdisjoint(self.kernel.split(":")):
            raise UnsupportedError(f"there is only {self.kernel}")
        self.result = problem.result
        self.threads = torch.get_num_threads()
        wanted = library.chosen_layout(description, _WEIGHT_FORMAT)
        scratch = library.chosen_layout(description, _SCRATCH_FORMAT)
        self._scratch_bytes = library.size(scratch)
        self._layouts = {**layouts, WEIGHT: wanted}
        if self._scratch_bytes:
            self._layouts[SCRATCH] = scratch
        self._weight = weights.laid_out(library, problem.weight, wanted)
        self._primitive = library.made("primitive", description)
        self._library = library
        self._idle: list[_Run] = []

    def __call__(self, source: int, result: int, bias: int | None, other: int | None) -> None:
        """Run it on memory at some addresses, the bias and the second operand where it has them.

        Raises:
            RuntimeError: The library says that it failed.
        """
        try:
            run = self._idle.pop()
        except IndexError:
            run = self._new_run()
        memory, set_address = run.memory, self._library.set_address
        set_address(memory[SOURCE], source)
        set_address(memory[RESULT], result)
        if bias is not None:
            set_address(memory[BIAS], bias)
        if other is not None:
            set_address(memory[OTHER], other)
        if self._scratch_bytes:
            scratch = _SCRATCH.bytes(self._scratch_bytes)  # held until the end
            set_address(memory[SCRATCH], scratch.data_ptr())
        count = len(memory)
        status = self._library.execute(self._primitive.address, run.stream, count, run.address)
        self._idle.append(run)
        if status:
            raise RuntimeError(f"oneDNN returned {status} for {self.kernel}: please report it.")

    def _new_run(self) -> _Run:
        library = self._library
        memories = {number: library.memory(layout) for number, layout in self._layouts.items()}
        library.set_address(memories[WEIGHT], self._weight.data_ptr())
        arguments, stream = _arguments(memories), library.stream()
        pointers = {number: memory.address for number, memory in memories.items()}
        held = [*memories.values(), stream]
        return _Run(pointers, arguments, ctypes.addressof(arguments), stream.address, held)


def _arguments(memories: Mapping[int, Owned]) -> Any:
    """Return arguments as the library takes them."""
    pairs = [_Argument(number, memory.address) for number, memory in memories.items()]
    return (_Argument * len(pairs))(*pairs)
