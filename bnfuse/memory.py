"""Give memory that was freed back to the system.

The C library of Linux keeps what is freed between two blocks that are in use, and can often not use
it for the next tensor. Where copies of a model come and go that is as much as a copy.
"""

from __future__ import annotations

import ctypes
import sys


def give_back() -> None:
    """Give what is free back to the system, where the C library can."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim is not None:
        trim(0)
