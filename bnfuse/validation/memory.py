"""How much memory a copy of a model takes, and how much there is."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import nn

_MEMINFO = Path("/proc/meminfo")
_GROUP = Path("/sys/fs/cgroup")
NEEDED = 3
"""How many times its own bytes a verification takes: a float64 copy, and one as it is."""


def is_too_large(model: nn.Module, place: torch.device) -> bool:
    """Whether a float64 copy of a float32 model beside another may not fit into memory.

    Args:
        model: The model.
        place: Where the copies would be.
    """
    size = sum(tensor.nbytes for tensor in [*model.parameters(), *model.buffers()])
    room = available(place)
    return room is not None and NEEDED * size > room


def available(place: torch.device) -> int | None:
    """Return the bytes that can still be allocated on a device, or None where nobody can tell."""
    if place.type == "cuda":
        return int(torch.cuda.mem_get_info(place)[0])
    return None if place.type != "cpu" else _of_the_machine()


def _of_the_machine() -> int | None:
    """Return what Linux counts as available, within the limit of a container, if there is one."""
    try:
        lines = _MEMINFO.read_text().splitlines()
        found = int(next(line for line in lines if line.startswith("MemAvailable:")).split()[1])
    except (OSError, StopIteration, ValueError, IndexError):
        return _of_other_systems()
    try:
        limit = int((_GROUP / "memory.max").read_text())
        used = int((_GROUP / "memory.current").read_text())
    except (OSError, ValueError):  # no container, or "max"
        return 1024 * found
    return min(1024 * found, max(limit - used, 0))


def _of_other_systems() -> int | None:
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return None
