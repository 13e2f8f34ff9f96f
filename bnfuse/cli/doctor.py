"""What is installed, what is missing or in conflict, and how to mend it."""

from __future__ import annotations

import importlib
import os
from dataclasses import asdict, dataclass
from importlib import metadata
from typing import Any

import torch
from rich.table import Table
from rich.text import Text

from bnfuse.bench.environment import environment
from bnfuse.kernels.cudnn_calls import cudnn
from bnfuse.kernels.installed import VARIABLE, installed
from bnfuse.kernels.probe import onednn
from bnfuse.kernels.triton_probe import triton

_WORKS = "ok"
_OPTIONAL = {
    "onnx": "pip install 'bnfuse[cpu]'  (ONNX export)",
    "onnxscript": "pip install 'bnfuse[cpu]'  (ONNX export)",
    "torchvision": "pip install 'bnfuse[zoo]'  (models named torchvision:...)",
    "timm": "pip install 'bnfuse[zoo]'  (models named timm:...)",
    "matplotlib": "pip install 'bnfuse[plot]'  (pictures of where errors grow)",
    "tensorrt_rtx": "pip install 'bnfuse[tensorrt-rtx]'  (engines, also without a GPU)",
    "torch_tensorrt": "pip install 'bnfuse[tensorrt]'  (engines inside PyTorch, on a GPU)",
    "tritonclient": "pip install 'bnfuse[triton]'  (repositories for Triton Inference Server)",
}


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing looked at.

    Attributes:
        what: Its name.
        found: Version, device or provider; empty where there is none.
        remedy: How to mend it, or empty where nothing is wrong.
        is_conflict: Whether something is broken rather than absent.
    """

    what: str
    found: str
    remedy: str = ""
    is_conflict: bool = False


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """Everything that was looked at."""

    findings: tuple[Finding, ...]

    @property
    def conflicts(self) -> list[Finding]:
        """What is broken."""
        return [finding for finding in self.findings if finding.is_conflict]

    def to_dict(self) -> dict[str, Any]:
        """Return the findings as plain data, ready for JSON."""
        return asdict(self)

    def as_table(self) -> Table:
        """Return a row for each finding, for a rich console."""
        table = Table("", "found", "to mend", box=None, header_style="bold", pad_edge=False)
        for f in self.findings:
            style = "red" if f.is_conflict else None
            cells = (f.what, f.found or "missing", f.remedy or _WORKS)
            table.add_row(*map(Text, cells), style=style)
        return table


def diagnose() -> Diagnosis:
    """Look at everything that bnfuse can use."""
    known = environment()
    rows = [Finding(name, known[name]) for name in ("python", "processor", "threads", "torch")]
    rows += [_kernels(), _library(), _gpu()]
    rows += [_optional(name, remedy) for name, remedy in _OPTIONAL.items()]
    rows.append(_onnxruntime(_installed("onnxruntime"), _installed("onnxruntime-gpu")))
    return Diagnosis(tuple(rows))


def _installed(distribution: str) -> str:
    """Return the version of an installed distribution, or an empty string."""
    try:
        return metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return ""


def _kernels() -> Finding:
    """Look at the fused kernels of the CPU."""
    found = onednn()
    names = sorted(str(dtype).removeprefix("torch.") for dtype in found.dtypes)
    remedy = f"{found.note}: plain operators run instead, slower" if found.note else ""
    return Finding("kernels", f"oneDNN: {', '.join(names)}" if names else "", remedy)


def _library() -> Finding:
    """Look at the build of oneDNN that small layers are called through."""
    found = installed()
    if found.library is not None:
        return Finding("oneDNN", found.note.removeprefix("oneDNN "))
    is_named = VARIABLE in os.environ
    remedy = f"{found.note}: small layers take longer, by some 30 µs a call; " + (
        f"unset {VARIABLE}" if is_named else "on Linux, x86-64, pip install 'bnfuse[cpu]'"
    )
    return Finding("oneDNN", "", remedy)


def _gpu() -> Finding:
    """Look at the GPU, and at the fused kernels there."""
    if torch.cuda.is_available():
        device = torch.cuda.current_device()
        notes = [note for note in (cudnn(device).note, triton(device).note) if note]
        remedy = f"{'; '.join(notes)}: plain operators run instead, slower" if notes else ""
        return Finding("gpu", f"{torch.cuda.get_device_name()}, CUDA {torch.version.cuda}", remedy)
    reason = "this build of torch has no CUDA" if not torch.version.cuda else "no driver or GPU"
    return Finding("gpu", "", f"none is needed; {reason}, so everything runs on the CPU")


def _optional(name: str, remedy: str) -> Finding:
    """Try an optional package by importing it, since installed is not yet working."""
    version = _installed(name)
    try:
        importlib.import_module(name)
    except Exception as error:  # a broken package can raise anything on import
        if not version:
            return Finding(name, "", remedy)
        reason = f"does not import ({error}): reinstall it with versions from constraints.txt"
        return Finding(name, version, reason, is_conflict=True)
    return Finding(name, version)


def _onnxruntime(cpu: str, gpu: str) -> Finding:
    """Look at the two distributions that install the same module over each other."""
    name = "onnxruntime"
    if cpu and gpu:
        remedy = (
            "both onnxruntime and onnxruntime-gpu are installed and overwrite each other: "
            "pip uninstall -y onnxruntime onnxruntime-gpu, then install one of them"
        )
        return Finding(name, f"{cpu} and {gpu} (gpu)", remedy, is_conflict=True)
    if not cpu and not gpu:
        return Finding(name, "", "pip install 'bnfuse[cpu]', or 'bnfuse[gpu]' for NVIDIA GPUs")
    try:
        providers = importlib.import_module(name).get_available_providers()
    except Exception as error:  # a broken package can raise anything on import
        remedy = f"does not work ({error}): pip install --force-reinstall it"
        return Finding(name, cpu or gpu, remedy, is_conflict=True)
    return Finding(name, f"{cpu or gpu}: {', '.join(providers)}")
