"""Export one model of each of 50 families to ONNX, check the files, run them, compare them.

``python benchmarks/onnx_families.py`` takes the families of ``benchmarks/zoo.py``, names after it
those models of timm. ``bnfuse.export_onnx`` writes each with an open batch size where the model
takes any, has ``onnx.checker`` look at it in full, and compares it, run in onnxruntime at batch
sizes 1 and 3, with the unfused model in float64. Beside it stands what ``torch.onnx.export`` makes
of it. Results go to ``benchmarks/results/onnx_families.json`` after each model; a second
run goes on where the first stopped, and ``--again`` measures anew.

``--latency`` times both files instead, one against the other in alternating blocks of calls, on two
threads that do not spin, batch 1, float32: on a machine that does nothing else. Those results go to
``onnx_families_latency.json``.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

import bnfuse
from benchmarks.onnx_facts import facts
from benchmarks.onnx_runtime import SLOWER, THREADS, exported, timed
from benchmarks.storage import current_commit, load, save
from benchmarks.zoo import FAMILIES
from bnfuse.export.runtime import OnnxSession
from bnfuse.zoo import load_model

if TYPE_CHECKING:
    from torch import nn

    from bnfuse.validation import Verification

RESULTS = Path(__file__).parent / "results" / "onnx_families.json"
LATENCIES = RESULTS.with_name("onnx_families_latency.json")
WANTED = ("batch 1", "batch 3")
"""The batch sizes that a file has to be compared at."""
MOST = 0.98
"""What the geometric mean of the ratios may be; no interval may lie wholly above ``SLOWER``."""


def plain(model: nn.Module, args: tuple[Any, ...], path: Path) -> None:
    """Write the file that ``torch.onnx.export`` makes."""
    program = torch.onnx.export(model, args, dynamo=True, external_data=False, verbose=False)
    if program is None:
        raise RuntimeError("torch.onnx returned nothing")
    program.save(path)


def batches(found: Verification, batch: int) -> list[str]:
    """Return the batch sizes that a file was compared at, the example's by its number."""
    labels = (output.name.rpartition(", ")[2] for output in found.outputs)
    named = [label if label in WANTED else f"batch {batch}" for label in labels]
    return sorted(set(named))


def measured(name: str) -> dict[str, Any]:
    """Export one model, compare the file with the model, and count what is in it."""
    loaded = load_model(f"timm:{name}")
    start = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        files = {kind: Path(folder) / f"{kind}.onnx" for kind in ("plain", "bnfuse")}
        done = bnfuse.export_onnx(loaded.model, files["bnfuse"], loaded.example_inputs)
        seconds = time.perf_counter() - start
        plain(loaded.model, loaded.example_inputs, files["plain"])
        found = done.verification
        if found is None:
            raise RuntimeError("the file was not compared")
        return {
            "model": name,
            "commit": current_commit(),
            "dynamic_batch": done.dynamic_batch,
            "compared_at": batches(found, len(loaded.example_inputs[0])),
            "device": found.device,
            "passed": found.passed,
            "max_rel_error": found.max_rel_error,
            "of_what_is_allowed": max(o.max_abs_error / o.tolerance for o in found.outputs),
            "export_s": round(seconds, 1),
            "batch_norms_of_model": done.report.total,
            "kept": len(done.report.kept),
            **{f"{kind}_file": facts(path) for kind, path in files.items()},
        }


def latency(name: str, seconds: float) -> dict[str, Any]:
    """Time both files of one model against each other."""
    loaded = load_model(f"timm:{name}")
    with tempfile.TemporaryDirectory() as folder:
        files = exported(loaded.model, loaded.example_inputs, Path(folder))
        sessions = {kind: OnnxSession(path, threads=THREADS) for kind, path in files.items()}
        row = timed(sessions, (loaded.example_inputs, {}), seconds)
    return {"model": name, "commit": current_commit(), **row}


def safely(name: str, measure: Any) -> dict[str, Any]:
    """Measure one model; what it raises is a result too."""
    try:
        row: dict[str, Any] = measure(name)
    except Exception as error:
        return {"model": name, "failed": f"{type(error).__name__}: {error}"[:400]}
    return row


def complaint(row: dict[str, Any]) -> str:
    """Return what is not as it should be in a row, or nothing."""
    if "failed" in row:
        return str(row["failed"])
    file = row["bnfuse_file"]
    found = [f"{file[what]} {what}" for what in ("dead", "casts", "without_shape") if file[what]]
    if not row["passed"]:
        found.append("differs")
    if row["dynamic_batch"] and row["compared_at"] != list(WANTED):
        found.append(f"compared at {row['compared_at']}")
    if not row["dynamic_batch"]:
        found.append("fixed batch")
    if file["batch_norms"] > row["kept"]:
        found.append("batch norms that the report does not keep")
    return ", ".join(found)


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each model: torch.onnx.export's file to bnfuse's."""
    columns = ("model", "MB", "nodes", "batch norms", "constant arithmetic", "identities")
    table = Table(*columns, "batch", "error", "of allowed", "", box=None)
    keys = ("nodes", "batch_norms", "constant_arithmetic", "identities")
    for row in rows:
        if "failed" in row:
            table.add_row(row["model"], *[""] * 8, complaint(row))
            continue
        files = row["plain_file"], row["bnfuse_file"]
        table.add_row(
            row["model"],
            " to ".join(f"{file['bytes'] / 1e6:.1f}" for file in files),
            *(" to ".join(str(file[key]) for file in files) for key in keys),
            "open" if row["dynamic_batch"] else "fixed",
            f"{row['max_rel_error']:.1e}",
            f"{row['of_what_is_allowed']:.2f}",
            complaint(row),
        )
    return table


def totals(rows: list[dict[str, Any]]) -> Table:
    """Return the sums over all models."""
    done = [row for row in rows if "failed" not in row]
    table = Table("", "", box=None, show_header=False)
    table.add_row("models", str(len(rows)))
    table.add_row("exported and equal", str(sum(row["passed"] for row in done)))
    table.add_row("with an open batch size", str(sum(row["dynamic_batch"] for row in done)))
    for key in ("bytes", "nodes", "batch_norms", "constant_arithmetic", "identities", "casts"):
        sums = [sum(row[f"{kind}_file"][key] for row in done) for kind in ("plain", "bnfuse")]
        name = key.replace("_", " ")
        table.add_row(f"{name}, torch.onnx.export to bnfuse", " to ".join(f"{n:,}" for n in sums))
    return table


def latency_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each model, and the geometric mean."""
    table = Table("model", "plain", "bnfuse", "ratio", "95%", "", box=None)
    for row in rows:
        if "failed" in row:
            table.add_row(row["model"], *[""] * 4, row["failed"])
            continue
        table.add_row(
            row["model"],
            f"{row['plain_ms']:.1f} ms",
            f"{row['bnfuse_ms']:.1f} ms",
            f"{row['ratio']:.2f}",
            f"{row['low']:.2f} to {row['high']:.2f}",
            "slower" if row["low"] > SLOWER else "",
        )
    ratios = [row["ratio"] for row in rows if "failed" not in row]
    if ratios:
        mean = float(np.exp(np.mean(np.log(ratios))))
        verdict = "" if mean <= MOST else f"above {MOST}"
        table.add_row("geometric mean", "", "", f"{mean:.3f}", "", verdict)
    return table


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Names of timm models.")] = None,
    is_timed: Annotated[bool, typer.Option("--latency", help="Time both files instead.")] = False,
    seconds: Annotated[float, typer.Option(help="How long to time a model.")] = 8.0,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
) -> None:
    """Measure what is missing, save after each model, print the table."""
    wanted = names or list(FAMILIES)
    path = LATENCIES if is_timed else RESULTS
    rows = [row for row in load(path) if not (again and row["model"] in wanted)]
    known = {row["model"] for row in rows if "failed" not in row}
    rows = [row for row in rows if row["model"] in known]
    if is_timed:
        torch.set_num_threads(THREADS)
    for name in track([name for name in wanted if name not in known], "Exporting"):
        rows.append(safely(name, (lambda n: latency(n, seconds)) if is_timed else measured))
        save(path, rows)
    console = Console(width=160)
    console.print(latency_table(rows) if is_timed else as_table(rows))
    if not is_timed:
        console.print(totals(rows))


if __name__ == "__main__":
    typer.run(main)
