"""The GPU that figures were measured on, its driver, its libraries and its clocks."""

from __future__ import annotations

import subprocess
from typing import Any

import torch

ASKED = {
    "driver": "driver_version",
    "sm_clock": "clocks.sm",
    "memory_clock": "clocks.mem",
    "max_sm_clock": "clocks.max.sm",
    "max_memory_clock": "clocks.max.mem",
    "power_limit": "power.limit",
    "temperature": "temperature.gpu",
    "persistence": "persistence_mode",
}
"""What nvidia-smi is asked, by the names it gets here."""


def facts() -> dict[str, Any]:
    """Return what there is to know of the first GPU; reads, and changes nothing."""
    device = torch.cuda.get_device_properties(0)
    return {
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]  # torch's
        "capability": f"{device.major}.{device.minor}",
        "multiprocessors": device.multi_processor_count,
        "memory_bytes": device.total_memory,
        "l2_bytes": getattr(device, "L2_cache_size", None),
        "cudnn_allow_tf32": torch.backends.cudnn.allow_tf32,
        "matmul_allow_tf32": torch.backends.cuda.matmul.allow_tf32,
        **told_by_driver(),
    }


def told_by_driver() -> dict[str, str]:
    """Return what nvidia-smi says of the first GPU, nothing where it does not run."""
    command = ["nvidia-smi", "--id=0", f"--query-gpu={','.join(ASKED.values())}"]
    try:
        done = subprocess.run(
            [*command, "--format=csv,noheader"],
            capture_output=True,
            text=True,
            check=True,
            timeout=20,
        )
    except (OSError, subprocess.SubprocessError):
        return {}
    lines = done.stdout.splitlines()
    values = [value.strip() for value in lines[0].split(",")] if lines else []
    return dict(zip(ASKED, values, strict=True)) if len(values) == len(ASKED) else {}
