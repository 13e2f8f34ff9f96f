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
_FLOAT64_BYTES = 8


def is_too_large(model: nn.Module, place: torch.device) -> bool:
    """Whether two copies of a model, as it is and in float64, may not fit into memory.

    Those of a float32 model take 3 times its bytes.

    Args:
        model: The model.
        place: Where the copies would be.
    """
    held = [*model.parameters(), *model.buffers()]
    tensors = [t for t in held if t.layout is torch.strided]  # sparse ones have no size of memory
    size = sum(t.numel() * t.element_size() for t in tensors)
    size += sum(_FLOAT64_BYTES * t.numel() for t in tensors if t.is_floating_point())
    room = available(place)
    return room is not None and size > room


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
