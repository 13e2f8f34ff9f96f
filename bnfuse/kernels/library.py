"""oneDNN as a library of its own, which runs what was prepared without preparing it again.

PyTorch's operators look up, for each call, what they prepared at an earlier one: some 40 µs, more
than many layers take. The library's own C interface hands the prepared computation out. So where a
build of oneDNN 3 is installed, its kernels are called through that interface; PyTorch's own oneDNN
is linked into it and cannot be reached.

Source: https://uxlfoundation.github.io/oneDNN, C API; ``dnnl_types.h`` for the numbers.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_OPENMP = 2
_CPU = 1
_IN_ORDER = 1
_ANY_FORMAT = 1
_NAME_OF_KERNEL = 8
_MOST_AXES = 12


class UnsupportedError(Exception):
    """The library does not do what was asked."""


class _Version(ctypes.Structure):
    _fields_ = (
        ("major", ctypes.c_int),
        ("minor", ctypes.c_int),
        ("patch", ctypes.c_int),
        ("hash", ctypes.c_char_p),
        ("cpu_runtime", ctypes.c_uint),
        ("gpu_runtime", ctypes.c_uint),
    )


class Owned:
    """An object of the library, given back when nothing refers to it any more.

    Functions take it as it is, so that it lives as long as they run.
    """

    __slots__ = ("_as_parameter_", "_give_back")

    def __init__(self, at: ctypes.c_void_p, give_back: Callable[[ctypes.c_void_p], object]) -> None:
        self._as_parameter_ = at
        self._give_back = give_back

    def __del__(self) -> None:
        self._give_back(self._as_parameter_)

    @property
    def address(self) -> int:
        """Where it is, for as long as it lives."""
        return self._as_parameter_.value or 0


class Library:
    """A build of oneDNN 3, loaded.

    Attributes:
        version: Its version.
        has_openmp: Whether its threads are those of OpenMP.
        execute: Runs a computation: primitive, stream, how many arguments, their address. Other
            threads of Python run meanwhile.
        set_address: Gives a memory object another address.
        engine: What runs computations: the CPU.
    """

    def __init__(self, path: str) -> None:
        """Load a build.

        Args:
            path: The path of the shared library.

        Raises:
            OSError: It cannot be loaded.
            AttributeError: It is another library.
            UnsupportedError: It has no engine for the CPU.
        """
        functions = self._functions = ctypes.CDLL(path)
        functions.dnnl_version.restype = ctypes.POINTER(_Version)
        found = functions.dnnl_version().contents
        self.version = (found.major, found.minor, found.patch)
        self.has_openmp = found.cpu_runtime == _OPENMP
        pointer = ctypes.c_void_p
        functions.dnnl_primitive_desc_query_md.restype = pointer
        functions.dnnl_memory_desc_get_size.restype = ctypes.c_size_t
        self.execute: Any = functions.dnnl_primitive_execute
        self.execute.argtypes = (pointer, pointer, ctypes.c_int, pointer)
        # Too short a call to let other threads of Python run meanwhile, as CDLL does.
        self.set_address: Any = ctypes.PyDLL(path).dnnl_memory_set_data_handle
        self.set_address.argtypes = (pointer, pointer)
        self.engine = self.made("engine", _CPU, ctypes.c_size_t(0))

    def call(self, name: str, *arguments: Any) -> None:
        """Call a function of the library.

        Raises:
            UnsupportedError: It returned anything but success.
        """
        status = getattr(self._functions, f"dnnl_{name}")(*arguments)
        if status:
            raise UnsupportedError(f"dnnl_{name} returned {status}")

    def made(self, kind: str, *arguments: Any, by: str = "create") -> Owned:
        """Return an object of some kind, from the function of the library that makes it."""
        pointer = ctypes.c_void_p()
        self.call(f"{kind}_{by}", ctypes.byref(pointer), *arguments)
        destroyed = "primitive_desc" if kind.endswith("primitive_desc") else kind
        return Owned(pointer, getattr(self._functions, f"dnnl_{destroyed}_destroy"))

    def layout(self, shape: Sequence[int], strides: Sequence[int], dtype: int) -> Owned:
        """Return the description of a tensor, strides in elements."""
        sizes, steps = dims(shape), dims(strides)
        return self.made("memory_desc", len(shape), sizes, dtype, steps, by="create_with_strides")

    def any_layout(self, shape: Sequence[int], dtype: int) -> Owned:
        """Return the description of a tensor whose format the library is to choose."""
        sizes = dims(shape)
        return self.made("memory_desc", len(shape), sizes, dtype, _ANY_FORMAT, by="create_with_tag")

    def chosen_layout(self, description: Owned, which: int) -> Owned:
        """Return the format that a computation has chosen for one of its arguments."""
        found = self._functions.dnnl_primitive_desc_query_md(description, which, 0)
        return self.made("memory_desc", ctypes.c_void_p(found), by="clone")

    def size(self, layout: Owned) -> int:
        """Return how many bytes a tensor takes."""
        return int(self._functions.dnnl_memory_desc_get_size(layout))

    def is_same(self, one: Owned, other: Owned) -> bool:
        """Whether two layouts are the same."""
        return bool(self._functions.dnnl_memory_desc_equal(one, other))

    def memory(self, layout: Owned, address: int = 0) -> Owned:
        """Return a memory object: a tensor at an address, which can be set later."""
        return self.made("memory", layout, self.engine, ctypes.c_void_p(address))

    def stream(self) -> Owned:
        """Return what computations are run in; one for each that may run at the same time."""
        return self.made("stream", self.engine, _IN_ORDER)

    def kernel(self, description: Owned) -> str:
        """Return the name of the kernel that was chosen, such as ``"brgconv:avx512_core"``."""
        name = ctypes.c_char_p()
        self.call("primitive_desc_query", description, _NAME_OF_KERNEL, 0, ctypes.byref(name))
        return (name.value or b"").decode()


def dims(sizes: Sequence[int]) -> Any:
    """Return sizes as the library takes them."""
    return (ctypes.c_int64 * _MOST_AXES)(*sizes)
