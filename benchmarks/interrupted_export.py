"""Interrupt exports at random moments, and look at what is left.

``python benchmarks/interrupted_export.py --seed 0`` sends SIGINT at 50 random moments of an export
over an earlier file, then SIGKILL at 50 others. Half of the moments are drawn from the whole of an
export, half from the last tenth, in which the file is written, checked and renamed. Then the file
must be the earlier one or the complete new one, byte by byte; beside it nothing may be left by
SIGINT, and by SIGKILL at most a temporary file, which the next export must not mind.

Each export runs in a process of its own, a fork of this one. Results go to
``benchmarks/results/interrupted_export.json`` after each; a second run with the same seed goes on
where the first stopped, ``--again`` starts over.
"""

from __future__ import annotations

import os
import random
import signal
import sys
import tempfile
import time
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

import bnfuse
from benchmarks.storage import load, save
from bnfuse.zoo import randomize_statistics

RESULTS = Path(__file__).parent / "results" / "interrupted_export.json"
EXAMPLE = torch.ones(1, 3, 16, 16)
SIGNALS = ("SIGINT", "SIGKILL")
LATE = 0.9
"""From which part of an export on the second half of the moments is drawn."""


def model_to_export(seed: int) -> nn.Module:
    """Return a small network with 16 MB of weights, so that writing them takes a while."""
    torch.manual_seed(seed)
    layers = [nn.Conv2d(3, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(8)]
    tail = [nn.Flatten(), nn.Linear(4096, 1024), nn.BatchNorm1d(1024)]
    return randomize_statistics(nn.Sequential(*layers, *tail), seed).eval()


def started(model: nn.Module, path: Path) -> int:
    """Start an export in a process of its own and return its id.

    That ends with 0 after an export, 130 after an interrupt, 1 after an error.
    """
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        bnfuse.export_onnx(model, path, (EXAMPLE,))
        code = 0
    except KeyboardInterrupt:
        code = 130
    finally:
        os._exit(code)


def ended(pid: int) -> str:
    """Wait for a process and return how it ended."""
    _, status = os.waitpid(pid, 0)
    if os.WIFSIGNALED(status):
        return signal.Signals(os.WTERMSIG(status)).name
    return {0: "finished", 130: "interrupted"}.get(os.WEXITSTATUS(status), "failed")


def exported(model: nn.Module, path: Path) -> float:
    """Export undisturbed, and return how many seconds that took."""
    start = time.perf_counter()
    how = ended(started(model, path))
    if how != "finished":
        raise RuntimeError(f"an export that nobody interrupted {how}")
    return time.perf_counter() - start


def contents(path: Path, known: dict[bytes, str]) -> str:
    """Return whether a file is the earlier one, the new one, or another."""
    return known.get(path.read_bytes(), "partial") if path.exists() else "missing"


def interrupted(
    name: str, model: nn.Module, known: dict[bytes, str], after: float
) -> dict[str, Any]:
    """Interrupt one export and return what is left.

    Args:
        name: The signal.
        model: The model that is exported over the earlier file.
        known: The earlier and the new file, with what to call them.
        after: After how many seconds.
    """
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        path.write_bytes(next(iter(known)))
        pid = started(model, path)
        time.sleep(after)
        os.kill(pid, getattr(signal, name))
        row = {"signal": name, "seconds": after, "ended": ended(pid), "file": contents(path, known)}
        names = [entry.name for entry in path.parent.iterdir() if entry != path]
        row |= {"beside": names, "next": ""}
        if names:  # what is left is in nobody's way
            exported(model, path)
            row["next"] = contents(path, known)
    return row


def is_right(row: dict[str, Any]) -> bool:
    """Whether nothing partial is left under the final name, and nothing at all by SIGINT."""
    is_clean = not row["beside"] or (row["signal"] == "SIGKILL" and row["next"] == "new")
    return row["file"] in ("earlier", "new") and is_clean and row["ended"] != "failed"


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each signal."""
    columns = ("signal", "moments", "interrupted", "finished", "earlier file", "new file")
    table = Table(*columns, "partial", "temporary left", "wrong", box=None)
    for name in SIGNALS:
        group = [row for row in rows if row["signal"] == name]
        files = [row["file"] for row in group]
        counts = (
            len(group),
            sum(row["ended"] != "finished" for row in group),
            sum(row["ended"] == "finished" for row in group),
            files.count("earlier"),
            files.count("new"),
            files.count("partial") + files.count("missing"),
            sum(bool(row["beside"]) for row in group),
            sum(not is_right(row) for row in group),
        )
        table.add_row(name, *map(str, counts))
    return table


def main(
    seed: Annotated[int, typer.Option(help="The seed of the moments.")] = 0,
    moments: Annotated[int, typer.Option(help="How many for each signal.")] = 50,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
) -> None:
    """Interrupt what is missing, save after each, print the table."""
    torch.set_num_threads(1)  # a fork has no other threads
    rows = [row for row in load(RESULTS) if not (again and row["seed"] == seed)]
    done = {(row["seed"], row["signal"], row["number"]) for row in rows}
    model, earlier = model_to_export(1), model_to_export(0)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "net.onnx"
        bnfuse.export_onnx(earlier, path, (EXAMPLE,), verify=False)  # imports what it needs
        known = {path.read_bytes(): "earlier"}
        seconds = min(exported(model, path) for _ in range(3))
        known[path.read_bytes()] = "new"
    generator = random.Random(seed)
    drawn = [(name, n) for name in SIGNALS for n in range(moments)]
    parts = [generator.uniform(LATE if n % 2 else 0.0, 1.0) for _, n in drawn]
    for (name, n), part in track(list(zip(drawn, parts, strict=True)), "Interrupting"):
        if (seed, name, n) not in done:
            found = interrupted(name, model, known, part * seconds)
            rows.append({"seed": seed, "number": n, "moment": part, **found})
            save(RESULTS, rows)
    mine = [row for row in rows if row["seed"] == seed]
    Console(width=120).print(as_table(mine))
    raise typer.Exit(0 if all(map(is_right, mine)) else 1)


if __name__ == "__main__":
    typer.run(main)
