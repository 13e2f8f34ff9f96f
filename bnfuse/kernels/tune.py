"""Choose by measurement, layer by layer, whether oneDNN is to run it.

Which is faster depends on the processor, the number of threads, the versions of PyTorch and oneDNN
and the sizes of the layer. What was measured is kept in a file of the user's cache, by those, so
that the same choice is made again without measuring: delete the file to measure anew.
"""

from __future__ import annotations

import json
import os
import time
from contextlib import suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnfuse.kernels.fused import FusedLayer
from bnfuse.kernels.installed import installed
from bnfuse.kernels.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_ROUNDS = 9
_SECONDS = 0.002
_CALLS = 32


def cache_file() -> Path:
    """Return where measurements are kept: ``BNFUSE_CACHE``, else below the user's cache folder."""
    given = os.environ.get("BNFUSE_CACHE")
    base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
    return Path(given or Path(base) / "bnfuse") / "kernels.json"


def tune(model: nn.Module, call: Callable[[], object]) -> None:
    """Let the fused layers of a model take the faster of their kernels for the shapes of a call.

    Args:
        model: The model; its layers note their choices, which travel with copies.
        call: Calls the model.
    """
    seen: list[tuple[FusedLayer, tuple[Tensor, ...]]] = []
    layers = [module for module in model.modules() if isinstance(module, FusedLayer)]
    handles = [
        layer.register_forward_pre_hook(lambda module, args: seen.append((module, args)))
        for layer in layers
    ]
    try:
        with torch.no_grad():
            call()
    finally:
        for handle in handles:
            handle.remove()
    known = _load()
    before = len(known)
    with torch.no_grad():
        for layer, args in seen:
            key = _key(layer, args)
            if key not in known:
                found = _is_faster(layer, args)
                if found is None:
                    continue
                known[key] = found
            layer.choices = {**layer.choices, tuple(args[0].shape): known[key]}
    if len(known) > before:
        _save(known)


def _key(layer: FusedLayer, args: tuple[Tensor, ...]) -> str:
    """Return what a measurement depends on, as text."""
    sizes = [(tuple(x.shape), x.is_contiguous(), str(x.dtype)) for x in args]
    machine = (torch.backends.cpu.get_cpu_capability(), _processor(), torch.get_num_threads())
    versions = torch.__version__, installed().version
    return repr((machine, versions, repr(layer), layer.returns_contiguous, sizes))


def _processor() -> str:
    """Return the name of the processor, or an empty string."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return ""


def _is_faster(layer: FusedLayer, args: tuple[Tensor, ...]) -> bool | None:
    """Return whether oneDNN is faster for some arguments; None where it does not run them."""
    x, *others = args
    weight = layer.weight
    packed = Packed(weight, 0, 0)
    if layer.decides(packed, x) is None:
        return None
    made = (layer.by_operators(packed, x), layer.by_onednn(packed, x))
    runs = tuple(map(layer.laid_out, made))
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(_ROUNDS):
        for run, list_of_times in zip(runs, times, strict=True):
            list_of_times.append(_seconds(lambda run=run: run(x, layer.bias, *others)))  # type: ignore[misc]  # a default
    return median(times[1]) < median(times[0])


def _seconds(run: Callable[[], Any]) -> float:
    """Return how long a call takes, the first of some dropped."""
    run()
    start, count = time.perf_counter(), 0
    while count < _CALLS and time.perf_counter() - start < _SECONDS:
        run()
        count += 1
    return (time.perf_counter() - start) / count


def _load() -> dict[str, bool]:
    """Return the measurements there are; none where the file is missing or damaged."""
    try:
        found = json.loads(cache_file().read_text())
    except (OSError, ValueError):
        return {}
    return {k: v for k, v in found.items() if isinstance(v, bool)} if type(found) is dict else {}


def _save(known: dict[str, bool]) -> None:
    """Write the measurements; where that is not possible they are made again next time."""
    path = cache_file()
    temporary = path.with_name(f"{path.name}.{os.getpid()}")
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary.write_text(json.dumps(known, indent=1, sort_keys=True))
        temporary.replace(path)
