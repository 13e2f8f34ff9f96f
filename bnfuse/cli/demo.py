"""The whole way on one model: fold, report, verify, export, time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.bench import benchmark
from bnfuse.cli.terminal import OUT, note, progress, stage
from bnfuse.export import export_onnx
from bnfuse.optimizer import optimize
from bnfuse.report import report
from bnfuse.report.render import as_table
from bnfuse.validation import verify
from bnfuse.zoo import load_model

if TYPE_CHECKING:
    from pathlib import Path

MODEL = "torchvision:resnet50"
ROWS_SHOWN = 8


def run(output: Path, seconds: float) -> None:
    """Run the demo.

    Args:
        output: Where to write the ONNX file.
        seconds: How long to measure latency.
    """
    with stage(f"Loading {MODEL}"):
        loaded = load_model(MODEL)
    model, inputs = loaded.model, loaded.example_inputs
    note("Weights and batch-norm statistics are random: nothing is downloaded.")
    with stage("Optimizing"):
        optimized = optimize(model)
    OUT.print(as_table(report(optimized), limit=ROWS_SHOWN))
    with stage("Verifying against the unfused model in float64"):
        outcome = verify(model, optimized, inputs).raise_if_failed()
    OUT.print(outcome.headline, markup=False, soft_wrap=True)
    with stage("Exporting to ONNX, running the file, comparing"):
        exported = export_onnx(model, output, inputs)
    if exported.verification:
        OUT.print(exported.verification.headline, markup=False, soft_wrap=True)
    counted = ", ".join(f"{count} {name}" for name, count in exported.nodes.items())
    OUT.print(f"Wrote {output}: {counted}.", markup=False, soft_wrap=True)
    with progress("Measuring latency") as move:
        result = benchmark(model, inputs, seconds=seconds, onnx=output, on_progress=move)
    OUT.print(str(result), markup=False, highlight=False, soft_wrap=True)
