"""Time bnfuse's ONNX files in ONNX Runtime beside those of plain ``torch.onnx.export``.

``python benchmarks/onnx_runtime.py`` takes eight models of timm, names after it those models.
Each model is exported twice, fused by bnfuse and as it is, and the two files are timed against each
other in one process: on the CPU with two threads that do not spin, batch 1, float32, in
alternating blocks of calls. Results go to ``benchmarks/results/onnx_runtime.json`` after each
model; a second run goes on where the first stopped, and ``--again`` measures anew.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import onnx
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

import bnfuse
from benchmarks.storage import load, save
from bnfuse.bench.measure import alternating_blocks
from bnfuse.export.runtime import OnnxSession
from bnfuse.zoo import load_model

if TYPE_CHECKING:
    from torch import nn

    from bnfuse.validation.inputs import Arguments

RESULTS = Path(__file__).parent / "results" / "onnx_runtime.json"
THREADS = 2
RESAMPLES = 2000
ASKED = {
    "resnet50": None,
    "mobilenetv3_large_100": None,
    "efficientnet_b0": None,
    "repvgg_a0": 0.86,
    "mobileone_s0": 0.30,
    "fastvit_t8": 0.72,
    "densenet121": None,
    "levit_128s": 0.95,
}
"""The models, and the ratio each is to reach; no interval may be wholly above ``SLOWER``."""
SLOWER = 1.03


def exported(model: nn.Module, args: tuple[Any, ...], folder: Path) -> dict[str, Path]:
    """Write both files."""
    files = {"plain": folder / "plain.onnx", "bnfuse": folder / "bnfuse.onnx"}
    program = torch.onnx.export(model, args, dynamo=True, verbose=False)
    if program is None:
        raise RuntimeError("torch.onnx returned nothing")
    program.save(files["plain"])
    bnfuse.export_onnx(model, files["bnfuse"], args, verify=False)
    return files


def ratio_with_interval(
    mine: list[list[float]], theirs: list[list[float]], seed: int = 0
) -> tuple[float, float, float]:
    """Return the ratio of the medians of all calls, and its 95% interval.

    The interval is a bootstrap over the rounds: calls of a block, and the two blocks of a round,
    see the same phase of the machine, so they are drawn together.
    """
    times = np.array([mine, theirs])  # file, round, call
    drawn = np.random.default_rng(seed).integers(times.shape[1], size=(RESAMPLES, times.shape[1]))
    medians = np.median(times[:, drawn].reshape(2, RESAMPLES, -1), axis=2)
    low, high = np.quantile(medians[0] / medians[1], (0.025, 0.975))
    whole = np.median(times.reshape(2, -1), axis=1)
    return float(whole[0] / whole[1]), float(low), float(high)


def facts(path: Path) -> dict[str, Any]:
    """Return what a file is made of."""
    nodes = Counter(node.op_type for node in onnx.load(path).graph.node)
    return {
        "nodes": nodes.total(),
        "conv": nodes["Conv"],
        "batch_norms": nodes["BatchNormalization"],
        "bytes": path.stat().st_size,
        "by_type": dict(nodes.most_common()),
    }


def timed(sessions: dict[str, OnnxSession], call: Any, seconds: float) -> dict[str, Any]:
    """Run both files in alternating blocks for about so long."""
    feeds = {name: session.feed(call) for name, session in sessions.items()}
    calls = {name: lambda n=name: sessions[n].time_feed(feeds[n]) for name in sessions}
    start = time.perf_counter()
    alternating_blocks(calls, rounds=1)  # warm-up, and the length of a round
    rounds = max(10, round(seconds / (time.perf_counter() - start)))
    blocks = alternating_blocks(calls, rounds)
    ratio, low, high = ratio_with_interval(blocks["bnfuse"], blocks["plain"])
    medians = {f"{name}_ms": float(np.median(blocks[name])) for name in blocks}
    return {"rounds": rounds, **medians, "ratio": ratio, "low": low, "high": high}


def measured(name: str, seconds: float) -> dict[str, Any]:
    """Export, compare and time one model."""
    loaded = load_model(f"timm:{name}")
    call: Arguments = (loaded.example_inputs, {})
    with tempfile.TemporaryDirectory() as folder:
        files = exported(loaded.model, loaded.example_inputs, Path(folder))
        sessions = {n: OnnxSession(path, threads=THREADS) for n, path in files.items()}
        outputs = {n: session.run(call)[0] for n, session in sessions.items()}
        difference = (outputs["bnfuse"] - outputs["plain"]).abs().max()
        error = float(difference / outputs["plain"].abs().max())
        row = {"model": name, **timed(sessions, call, seconds), "max_rel_error": error}
        return row | {f"{n}_file": facts(path) for n, path in files.items()}


def is_reached(row: dict[str, Any]) -> bool:
    """Whether a model is as fast as asked."""
    asked = ASKED.get(row["model"])
    return row["low"] <= SLOWER and (asked is None or row["ratio"] <= asked)


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each model."""
    columns = ("model", "plain", "bnfuse", "ratio", "95%", "asked", "bn", "conv", "nodes", "MB")
    table = Table(*columns, "error", "", box=None)
    for row in rows:
        files = row["plain_file"], row["bnfuse_file"]
        asked = ASKED.get(row["model"])
        table.add_row(
            row["model"],
            f"{row['plain_ms']:.1f} ms",
            f"{row['bnfuse_ms']:.1f} ms",
            f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            "" if asked is None else f"{asked:.2f}",
            *(" to ".join(str(f[key]) for f in files) for key in ("batch_norms", "conv", "nodes")),
            " to ".join(f"{f['bytes'] / 1e6:.1f}" for f in files),
            f"{row['max_rel_error']:.1e}",
            "" if is_reached(row) else "missed",
        )
    return table


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Names of timm models.")] = None,
    seconds: Annotated[float, typer.Option(help="How long to time a model.")] = 12.0,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
) -> None:
    """Measure what is missing, save after each model, print the table."""
    wanted = names or list(ASKED)
    rows = [row for row in load(RESULTS) if not (again and row["model"] in wanted)]
    known = {row["model"] for row in rows}
    torch.set_num_threads(THREADS)
    for name in track([name for name in wanted if name not in known], "Timing"):
        rows.append(measured(name, seconds))
        save(RESULTS, rows)
    Console(width=150).print(as_table(rows))


if __name__ == "__main__":
    typer.run(main)
