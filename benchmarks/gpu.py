"""Verify, probe and time bnfuse on an NVIDIA GPU, most important first.

``python benchmarks/gpu.py`` needs the GPU, PyTorch, timm and torchvision, and stops within 8
minutes: a measurement that no longer fits into ``--seconds`` is not begun, and one that does not
end in time is dropped. Results go to ``benchmarks/results/gpu.json`` after each; a second run on
the same kind of GPU goes on where the first stopped, and ``--again`` measures anew. ``--only
verify``, ``endings``, ``probes`` or ``latency`` takes a part.

``--show`` prints what is known, on any machine.

``verify`` compares eight models, optimized in three dtypes, with themselves in float64. ``probes``
asks whether cuDNN's fused convolutions can be built upon. ``endings`` compares ways to do the rest
of a layer behind a convolution: the bias, a sum and an activation. ``latency`` times eager,
channels_last, bnfuse and ``torch.compile`` in alternating blocks, each with and without a CUDA
graph.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

from benchmarks import gpu_machine
from benchmarks.gpu_plan import Task, plan
from benchmarks.gpu_table import tables
from benchmarks.gpu_worker import Worker
from benchmarks.storage import load, save

if TYPE_CHECKING:
    from collections.abc import Callable

RESULTS = Path(__file__).parent / "results" / "gpu.json"
KINDS = ("verify", "endings", "probes", "latency")
CLOSING_S = 5.0
"""Seconds that are kept for ending the process and printing the tables."""


def missing(tasks: list[Task], rows: list[dict[str, Any]], machine: dict[str, Any]) -> list[Task]:
    """Return the tasks without a row from a machine of this kind."""
    known = {row["task"] for row in rows if row["machine"] == machine}
    return [task for task in tasks if task.name not in known]


def measure(
    tasks: list[Task],
    run: Callable[[Task, float], dict[str, Any] | None],
    keep: Callable[[Task, dict[str, Any]], None],
    seconds: float,
) -> list[Task]:
    """Do tasks in order while there is time, and return those that are left.

    Args:
        tasks: What to do. One that does not fit into what is left of the time is passed over, the
            very first excepted.
        run: Does one, given the seconds that are left; None where they were not enough.
        keep: Gets the outcome of each.
        seconds: How much time there is.
    """
    end = time.monotonic() + seconds
    left = []
    for task in tasks:
        remaining = end - time.monotonic()
        is_first = task is tasks[0]
        fits = remaining > 0 and (is_first or task.expected_s <= remaining)
        outcome = run(task, remaining) if fits else None
        if outcome is None:
            left.append(task)
        else:
            keep(task, outcome)
    return left


def chosen(only: str | None) -> list[Task]:
    """Return the tasks of a kind, or all.

    Raises:
        typer.BadParameter: There is no such kind.
    """
    if only is not None and only not in KINDS:
        raise typer.BadParameter(f"there is no part {only!r}: write one of {', '.join(KINDS)}.")
    return [task for task in plan() if only in (None, task.kind)]


def all_measured(
    tasks: list[Task], rows: list[dict[str, Any]], machine: dict[str, Any], end: float
) -> list[Task]:
    """Add the rows that are missing, save after each, and return the tasks that are left."""
    worker = Worker(machine["cudnn_benchmark"])
    environment = gpu_machine.facts()
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn()) as progress:
        bar = progress.add_task("", total=len(tasks))

        def run(task: Task, seconds: float) -> dict[str, Any] | None:
            progress.update(bar, description=task.name)
            return worker.run(task, seconds)

        def keep(task: Task, outcome: dict[str, Any]) -> None:
            rows.append(_row(task, machine, outcome))
            save(RESULTS, rows, environment)
            progress.advance(bar)

        try:
            return measure(tasks, run, keep, end - time.monotonic())
        finally:
            worker.stop()


def _row(task: Task, machine: dict[str, Any], outcome: dict[str, Any]) -> dict[str, Any]:
    head = {"task": task.name, "kind": task.kind, "measured": task.function.partition(":")[2]}
    return {**head, **task.arguments, **outcome, "machine": machine}


def main(
    seconds: Annotated[float, typer.Option(help="How long this run may take.")] = 450.0,
    only: Annotated[str | None, typer.Option(help=f"One of {', '.join(KINDS)}.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
    cudnn_benchmark: Annotated[
        bool,
        typer.Option("--cudnn-benchmark", help="Let cuDNN try its engines; rows of their own."),
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Only print what is known.")] = False,
) -> None:
    """Measure what is missing, save after each measurement, print the tables."""
    end = time.monotonic() + seconds - CLOSING_S
    tasks = chosen(only)
    if show:
        rows = [row for row in load(RESULTS) if only in (None, row["kind"])]
        _print(rows)
        return
    if not torch.cuda.is_available():
        raise typer.BadParameter(
            "there is no CUDA device here: run it where there is an NVIDIA GPU."
        )
    machine = {
        "gpu": torch.cuda.get_device_name(),
        "torch": torch.__version__,
        "cudnn_benchmark": cudnn_benchmark,
    }
    names = {task.name for task in tasks}
    rows = [
        row
        for row in load(RESULTS)
        if not (again and row["machine"] == machine and row["task"] in names)
    ]
    left = all_measured(missing(tasks, rows, machine), rows, machine, end)
    _print([row for row in rows if row["machine"] == machine])
    if left:
        expected = sum(task.expected_s for task in left)
        print(
            f"{len(left)} of {len(tasks)} measurements are left, about {expected / 60:.0f} minutes"
        )
        print(f"next is {left[0].name}: run the same command again to go on")


def _print(rows: list[dict[str, Any]]) -> None:
    console = Console(width=200)
    machines = {tuple(row["machine"].items()): row["machine"] for row in rows}
    for machine in machines.values():
        cudnn = ", cuDNN tries its engines" if machine["cudnn_benchmark"] else ""
        console.rule(f"{machine['gpu']}, torch {machine['torch']}{cudnn}")
        for table in tables([row for row in rows if row["machine"] == machine]):
            console.print(table)


if __name__ == "__main__":
    typer.run(main)
