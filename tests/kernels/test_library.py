"""oneDNN's own interface: what it makes, what it refuses, and what it gives back."""

from __future__ import annotations

import ctypes

import pytest

from bnfuse.kernels.library import Library, Owned, UnsupportedError, dims
from tests.kernels.support import LIBRARY, needs_library

FLOAT32 = 3


@pytest.fixture
def library() -> Library:
    if LIBRARY is None:
        pytest.skip("no build of oneDNN is installed")
    return LIBRARY


def test_a_missing_file() -> None:
    with pytest.raises(OSError, match="nowhere"):
        Library("/nowhere/libdnnl.so.3")


def test_another_library() -> None:
    name = "libc.so.6"
    with pytest.raises((AttributeError, OSError)):
        Library(name)


@needs_library
def test_version(library: Library) -> None:
    assert (3, 2) <= library.version < (4,)
    assert library.has_openmp


@needs_library
def test_layouts(library: Library) -> None:
    dense = library.layout((2, 3), (3, 1), FLOAT32)
    assert library.size(dense) == 24
    assert library.is_same(dense, library.layout((2, 3), (3, 1), FLOAT32))
    assert not library.is_same(dense, library.layout((2, 3), (1, 2), FLOAT32))


@needs_library
def test_what_it_refuses(library: Library) -> None:
    with pytest.raises(UnsupportedError, match="memory_desc_create_with_strides returned 2"):
        library.layout((2, 3), (3, 1), 999)


@needs_library
def test_memory_takes_another_address(library: Library) -> None:
    memory = library.memory(library.layout((4,), (1,), FLOAT32), 64)
    library.set_address(memory.address, 128)
    found = ctypes.c_void_p()
    library.call("memory_get_data_handle", memory, ctypes.byref(found))
    assert found.value == 128


def test_objects_are_given_back_once() -> None:
    gone: list[int | None] = []
    owned = Owned(ctypes.c_void_p(7), lambda at: gone.append(at.value))
    assert owned.address == 7
    del owned
    assert gone == [7]


def test_dims() -> None:
    assert list(dims((4, 2)))[:3] == [4, 2, 0]
