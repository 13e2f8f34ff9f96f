"""Tasks for the tests of the process that does them."""

from __future__ import annotations

import os
import time
from typing import Any


def answer(n: int) -> dict[str, Any]:
    """Return a figure and the process it was made in."""
    return {"n": n, "process": os.getpid()}


def failing() -> dict[str, Any]:
    raise ValueError("it does not work")


def crashing() -> dict[str, Any]:
    os.write(2, b"last words\n")
    os._exit(7)


def hanging() -> dict[str, Any]:
    time.sleep(600)
    return {}
