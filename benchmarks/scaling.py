"""Time ``bnfuse.optimize`` on generated graphs of growing size, and on ResNet-50.

``python benchmarks/scaling.py`` prints seconds, milliseconds for each operation, and how the time
grows as the operations double. Growth is told from the processor's time, which other jobs on the
machine disturb less than the clock's; both are the best of the runs: three where one takes less
than ``CHEAP`` seconds, else one. Results go to ``benchmarks/results/scaling.json`` after each
model; a second run goes on where the first stopped, ``--again`` starts over, ``--only`` takes the
models with some words in their names.
"""

from __future__ import annotations

import gc
import math
import sys
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import fx, nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

import bnfuse
from benchmarks.scaling_models import MODELS
from benchmarks.storage import load, save
from bnfuse.zoo import load_model

RESULTS = Path(__file__).parent / "results" / "scaling.json"
SIZES = (1000, 2000, 5000, 10000)
CHEAP = 5.0
RESNET = "torchvision:resnet50"
MOST_SECONDS = 2.0
"""For ResNet-50, each rewrite checked."""
MOST_GROWTH = 2.3


def made(name: str, size: int) -> nn.Module:
    """Return a model in eval mode."""
    torch.manual_seed(0)
    return load_model(name).model if name == RESNET else MODELS[name](size).eval()


def measured(name: str, size: int) -> dict[str, Any]:
    """Optimize one model, three times where that is cheap."""
    model = made(name, size)
    times: list[tuple[float, float]] = []
    while not times or (len(times) < 3 and times[0][0] < CHEAP):
        gc.collect()
        start = time.perf_counter(), time.process_time()
        fused = bnfuse.optimize(model)
        times.append((time.perf_counter() - start[0], time.process_time() - start[1]))
    report = bnfuse.report(fused)
    return {
        "model": name,
        "size": size,
        "operations": len(fx.symbolic_trace(model).graph.nodes) - 2,  # input and output
        "batch_norms": report.total,
        "gone": len(report.folded) + len(report.merged),
        "seconds": min(clock for clock, _ in times),
        "cpu_seconds": min(processor for _, processor in times),
        "runs": len(times),
    }


def growth(smaller: dict[str, Any], larger: dict[str, Any]) -> float:
    """Return by how much the time is multiplied as the operations double, between two sizes."""
    doublings = math.log2(larger["operations"] / smaller["operations"])
    return float((larger["cpu_seconds"] / smaller["cpu_seconds"]) ** (1 / doublings))


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each model and size."""
    columns = (
        "model",
        "operations",
        "bn",
        "gone",
        "seconds",
        "processor",
        "ms each",
        "times if doubled",
        "",
    )
    table = Table(*columns, box=None)
    smaller: dict[str, Any] | None = None
    for row in sorted(rows, key=lambda row: (row["model"] == RESNET, row["model"], row["size"])):
        follows = smaller is not None and smaller["model"] == row["model"]
        factor = growth(smaller, row) if follows and smaller is not None else None
        limit = MOST_SECONDS if row["model"] == RESNET else math.inf
        is_met = row["seconds"] <= limit and (factor or 0) <= MOST_GROWTH
        table.add_row(
            row["model"],
            f"{row['operations']:,}",
            f"{row['batch_norms']:,}",
            f"{row['gone']:,}",
            f"{row['seconds']:.2f}",
            f"{row['cpu_seconds']:.2f}",
            f"{row['cpu_seconds'] / row['operations'] * 1e3:.2f}",
            "" if factor is None else f"{factor:.2f}",
            "" if is_met else "missed",
        )
        smaller = row
    return table


def main(
    only: Annotated[str, typer.Option(help="Words in the names of the models to take.")] = "",
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
) -> None:
    """Measure what is missing, save after each model, print the table."""
    wanted = [(name, size) for name in MODELS for size in SIZES] + [(RESNET, 0)]
    wanted = [(name, size) for name, size in wanted if only in name]
    rows = [row for row in load(RESULTS) if not (again and (row["model"], row["size"]) in wanted)]
    known = {(row["model"], row["size"]) for row in rows}
    for name, size in track([case for case in wanted if case not in known], "Optimizing"):
        rows.append(measured(name, size))
        save(RESULTS, rows)
    Console(width=120).print(as_table(rows))


if __name__ == "__main__":
    typer.run(main)
