"""The machine and the versions a figure was measured with."""

from __future__ import annotations

import platform
from importlib import metadata
from pathlib import Path

import torch

from bnfuse.kernels.installed import installed

_PACKAGES = ("torch", "torchvision", "timm", "onnx", "onnxruntime", "onnxruntime-gpu")


def environment() -> dict[str, str]:
    """Return processor, threads, GPU and the versions of what takes part, by name."""
    found = {"python": platform.python_version(), "processor": _processor()}
    found["threads"] = str(torch.get_num_threads())
    if torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    for package in _PACKAGES:
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    if installed().version:
        found["onednn"] = installed().version
    return found


def _processor() -> str:
    """Return the processor's name, as far as the system tells it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())
