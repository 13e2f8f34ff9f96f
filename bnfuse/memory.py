"""Give memory that was freed back to the system, and look less often for what could be freed.

The C library of Linux keeps what is freed between two blocks that are in use, and can often not use
it for the next tensor. Where copies of a model come and go that is as much as a copy.

Python looks for garbage each time some hundred objects were made. A graph is made of thousands,
which stay, beside half a million of PyTorch's own: looking through them all, again and again, is a
fifth of the time that passes take.
"""

from __future__ import annotations

import ctypes
import gc
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

_MANY = 500_000
"""How many new objects may stand before Python looks through them: about 50 MB."""
_LOCK = threading.Lock()
_before: list[tuple[int, int, int]] = []
"""What the first of the threads found that collect rarely now, once for each of them."""


def give_back() -> None:
    """Give what is free back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)


@contextmanager
def collecting_rarely() -> Iterator[None]:
    """Let Python look for garbage rarely; as often as before when no thread needs it any more.

    Where the caller has turned that off it stays off.
    """
    with _LOCK:
        _before.append(_before[0] if _before else gc.get_threshold())
        if gc.get_threshold()[0]:
            gc.set_threshold(_MANY, *_before[0][1:])
    try:
        yield
    finally:
        with _LOCK:
            before = _before.pop()
            if not _before and gc.get_threshold()[0] == _MANY:
                gc.set_threshold(*before)
