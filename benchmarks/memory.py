"""Measure how much memory ``optimize`` takes, and packed weights after it.

``python benchmarks/memory.py`` takes resnet50 of timm and vgg16_bn of torchvision, or the models
named after it.
Each figure is that of one fresh process, the growth of its peak resident memory over the model
alone, in multiples of the bytes of the parameters: of ``optimize`` without example inputs, of
``optimize`` with them less what one call of the model takes, and of the first calls after it, which
pack weights. What a process loads once, such as oneDNN, is loaded before. Results go to
``benchmarks/results/memory.json`` after each model; a second run goes on where the first stopped,
and ``--again`` measures anew.
"""

from __future__ import annotations

import ctypes
import gc
import json
import resource
import subprocess
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

import bnfuse
from benchmarks.storage import load, save
from bnfuse.kernels import release
from bnfuse.zoo import load_model

RESULTS = Path(__file__).parent / "results" / "memory.json"
MODELS = ("timm:resnet50", "torchvision:vgg16_bn")
MOST = {"optimize": 1.5, "optimize_with_example": 4.0, "packing": 1.0}
"""How much each may take, in multiples of the bytes of the parameters."""
_SLACK = 0.1


def peak() -> int:
    """Return the largest resident memory that this process has had, in bytes."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def resident() -> int:
    """Return the resident memory of this process now, in bytes, without what was let go."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = Path("/proc/self/statm").read_text().split()[1]
    return int(pages) * resource.getpagesize()


def in_this_process(name: str, what: str) -> int:
    """Return the bytes that one thing takes beside the model."""
    loaded = load_model(name)
    model, inputs = loaded.model, loaded.example_inputs
    plain = torch.nn.Sequential(torch.nn.Conv2d(16, 16, 3), torch.nn.ReLU()).eval()
    small = bnfuse.optimize(plain)
    if what == "optimize":
        before = resident()
        bnfuse.optimize(model)
        return peak() - before
    with torch.no_grad():
        if what == "call":
            before = resident()
            model(*inputs)
            return peak() - before
        if what == "optimize_with_example":
            before = resident()
            bnfuse.optimize(model, inputs)
            return peak() - before
        small(torch.ones(1, 16, 64, 64))
        fused = bnfuse.optimize(model, validate=False)
        torch._C._set_mkldnn_enabled(False)
        fused(*inputs)
        torch._C._set_mkldnn_enabled(True)
        before = resident()
        fused(*inputs)
        if what == "packing":
            return resident() - before
        held = resident()
        release(fused)
        return held - resident()


def measured(name: str) -> dict[str, Any]:
    """Measure one model, a process for each figure."""
    row: dict[str, Any] = {"model": name}
    model = load_model(name).model
    row["parameter_bytes"] = sum(p.numel() * p.element_size() for p in model.parameters())
    for what in ("optimize", "call", "optimize_with_example", "packing", "released"):
        command = [sys.executable, __file__, "--in-this-process", what, name]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        row[f"{what}_bytes"] = json.loads(done.stdout.splitlines()[-1])
    row["optimize_with_example_bytes"] -= max(0, row["call_bytes"])
    return row


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each model, in multiples of its parameters."""
    table = Table("model", "parameters", *MOST, "released", "", box=None)
    for row in rows:
        whole = row["parameter_bytes"]
        times = {what: row[f"{what}_bytes"] / whole for what in MOST}
        is_missed = any(times[what] > most + _SLACK for what, most in MOST.items())
        cells = (f"{value:.2f}" for value in times.values())
        released = f"{row['released_bytes'] / whole:.2f}"
        missed = "missed" if is_missed else ""
        table.add_row(row["model"], f"{whole / 1e6:.0f} MB", *cells, released, missed)
    return table


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Models.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
    in_this_process_: Annotated[str, typer.Option("--in-this-process", hidden=True)] = "",
) -> None:
    """Measure what is missing, save after each model, print the table."""
    wanted = names or list(MODELS)
    torch.set_num_threads(2)
    if in_this_process_:
        sys.stdout.write(f"{json.dumps(in_this_process(wanted[0], in_this_process_))}\n")
        return
    rows = [row for row in load(RESULTS) if not (again and row["model"] in wanted)]
    known = {row["model"] for row in rows}
    for name in track([name for name in wanted if name not in known], "Measuring"):
        rows.append(measured(name))
        save(RESULTS, rows)
    Console(width=120).print(as_table(rows))


if __name__ == "__main__":
    typer.run(main)
