"""Fold real models and compare them with themselves: a row each, as a table and as JSON.

``python benchmarks/models.py`` writes ``benchmarks/results/models.json``.
"""

from __future__ import annotations

import json
import subprocess
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import track
from rich.table import Table

import bnfuse
from bnfuse.bench.environment import environment
from bnfuse.export.atomic import atomic_file
from bnfuse.zoo import load_model

MODELS = (
    "torchvision:resnet50",
    "torchvision:mobilenet_v3_large",
    "torchvision:shufflenet_v2_x0_5",
    "torchvision:regnet_x_400mf",
    "torchvision:deeplabv3_mobilenet_v3_large",
    "torchvision:r2plus1d_18",
    "timm:test_resnet",
    "timm:test_efficientnet",
    "timm:mobilenetv3_small_050",
    "timm:regnetx_002",
    "timm:cspnext_tiny",
    "timm:ese_vovnet19b_slim_dw",
    "timm:tresnet_m",
)
RESULTS = Path(__file__).parent / "results" / "models.json"


def measured(name: str) -> dict[str, Any]:
    """Fold one model, and compare it in float32 and in float64."""
    loaded = load_model(name)
    start = time.perf_counter()
    fused = bnfuse.optimize(loaded.model)
    seconds = time.perf_counter() - start
    report = bnfuse.report(fused)
    single = bnfuse.verify(loaded.model, fused, loaded.example_inputs)
    double_model = loaded.model.double()
    inputs = tuple(x.double() for x in loaded.example_inputs)
    double = bnfuse.verify(double_model, bnfuse.optimize(double_model), inputs)
    return {
        "model": name,
        "batch_norms": report.total,
        "folded": len(report.folded),
        "optimize_s": round(seconds, 2),
        "float32_error": single.max_rel_error,
        "float64_error": double.max_rel_error,
        "passed": single.passed and double.passed,
    }


def main() -> None:
    """Measure all, print the table, write the JSON."""
    rows = [measured(name) for name in track(MODELS, "Folding")]
    table = Table(*(key.replace("_", " ") for key in rows[0]), box=None)
    for row in rows:
        table.add_row(
            *(f"{v:.1e}" if isinstance(v, float) and v < 1e-3 else str(v) for v in row.values())
        )
    Console().print(table)
    commit = subprocess.run(
        ["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=True
    )
    with atomic_file(RESULTS) as temporary:
        made = {"commit": commit.stdout.strip(), "environment": environment(), "rows": rows}
        temporary.write_text(json.dumps(made, indent=1) + "\n")


if __name__ == "__main__":
    main()
