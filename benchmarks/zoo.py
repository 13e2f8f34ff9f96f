"""Optimize every timm model with batch norms and compare it with itself in float64.

``python benchmarks/zoo.py`` takes one model of each of 50 families, ``--all`` every model under 60
million parameters, ``--left`` those of ``--all`` that had batch norms left, names after it those
models. Results go to ``benchmarks/results/zoo.json`` after each model, those of the 50 families to
``families.json`` beside it, with the commit of each; a second run goes on where the first stopped.
``--again`` measures what was measured at another commit, as ``--left`` does.

Equal is a model whose outputs deviate by at most 1e-9, or by no more than 4 times what they do when
its input is moved by one unit in the last place: random weights make a few deep models amplify a
rounding error ten-million-fold.
"""

from __future__ import annotations

import sys
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import timm
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import fx
from torch.nn.modules.batchnorm import _BatchNorm

import bnfuse
from bnfuse.zoo import load_model

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from benchmarks.storage import current_commit, load, save

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

RESULTS = Path(__file__).parent / "results" / "zoo.json"
OF_FAMILIES = RESULTS.with_name("families.json")
LARGEST = 60_000_000
FAMILIES = (
    "test_byobnet", "convmixer_768_32", "cpubone_nano", "cs3darknet_focus_s", "cspnext_tiny",
    "densenet121", "dla46x_c", "dpn48b", "efficientformer_l1", "efficientformerv2_s0",
    "test_efficientnet", "efficientvim_m1", "efficientvit_b0", "efficientvit_m0", "fasternet_t0",
    "fastvit_t8", "ghostnet_050", "hgnetv2_b0", "hrnet_w18_small", "iformer_t",
    "inception_next_atto", "inception_resnet_v2", "inception_v3", "inception_v4", "lcnetv2_small",
    "levit_128s", "lowformer_b0", "test_coatnet", "mobilenetv3_small_050", "nextvit_small",
    "regnetx_002", "repghostnet_050", "repvit_m1", "test_resnet", "resnetv2_18", "rexnet_100",
    "selecsls42", "legacy_seresnet18", "shvit_s1", "starnet_s050", "swiftformer_xs",
    "tiny_vit_5m_224", "tresnet_m", "visformer_tiny", "vit_small_resnet50d_s16_224", "volo_d1_224",
    "ese_vovnet19b_slim_dw", "legacy_xception", "xception41p", "xcit_nano_12_p8_224",
)  # fmt: skip


def has_batch_norm(name: str) -> bool:
    """Whether a model has batch norms and is not too large, without allocating it."""
    with torch.device("meta"), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            model = timm.create_model(name)
        except Exception:  # some cannot be made without values; they are tried for real
            return True
    small = sum(parameter.numel() for parameter in model.parameters()) <= LARGEST
    return small and any(isinstance(module, _BatchNorm) for module in model.modules())


def torch_fx_traces(model: torch.nn.Module) -> bool:
    """Whether the tracer that comes with PyTorch takes the model."""
    try:
        fx.symbolic_trace(model)
    except Exception:
        return False
    return True


def measured(name: str) -> dict[str, Any]:
    """Optimize one model, and compare it with itself in float64."""
    loaded = load_model(f"timm:{name}")
    model, inputs = loaded.model.double(), tuple(x.double() for x in loaded.example_inputs)
    start = time.perf_counter()
    fused = bnfuse.optimize(model)
    seconds = time.perf_counter() - start
    report = bnfuse.report(fused)
    with torch.no_grad():
        wanted, got = model(*inputs), fused(*inputs)
        moved = [model(*(torch.nextafter(x, x + step) for x in inputs)) for step in (1, -1)]
    errors = [float((y - wanted).abs().max() / wanted.abs().max()) for y in (got, *moved)]
    error, own = errors[0], max(errors[1:])
    return {
        "model": name,
        "batch_norms": report.total,
        "folded": len(report.folded),
        "merged": len(report.merged),
        "kept": dict(Counter(row.reason for row in report.kept)),
        "captured_whole": isinstance(fused, fx.GraphModule),
        "torch_fx_traces": torch_fx_traces(model),
        "float64_error": error,
        "float64_error_of_one_ulp": own,
        "equal": error <= max(1e-9, 4 * own),
        "optimize_s": round(seconds, 2),
        "commit": current_commit(),
    }


def safely(name: str) -> dict[str, Any]:
    """Measure one model; what it raises is a result too."""
    try:
        return measured(name)
    except Exception as error:
        failed = f"{type(error).__name__}: {error}"[:300]
        return {"model": name, "failed": failed, "commit": current_commit()}


def to_measure(
    wanted: Sequence[str], rows: Mapping[str, dict[str, Any]], *, again: bool
) -> list[str]:
    """Return the models that are not measured, or where asked for, not at this commit."""
    commit = current_commit()
    return [n for n in wanted if n not in rows or (again and rows[n].get("commit") != commit)]


def summary(rows: list[dict[str, Any]]) -> Table:
    """Return the totals, and a row for each model that failed or is not equal."""
    table = Table("", "", box=None, show_header=False)
    done = [row for row in rows if "failed" not in row]
    whole = [row for row in done if row["captured_whole"]]
    total = sum(row["batch_norms"] for row in done)
    folded, merged = (sum(row.get(key, 0) for row in done) for key in ("folded", "merged"))
    table.add_row("models", str(len(rows)))
    table.add_row("equal", str(sum(row["equal"] for row in done)))
    table.add_row("captured whole", str(len(whole)))
    table.add_row("batch norms", str(total))
    table.add_row("folded", str(folded))
    table.add_row("merged", str(merged))
    table.add_row("left", str(total - folded - merged))
    table.add_row("models with none left", str(sum(not row["kept"] for row in done)))
    rejected = [row for row in done if not row["torch_fx_traces"]]
    total = sum(row["batch_norms"] for row in rejected)
    folded = total - sum(sum(row["kept"].values()) for row in rejected)
    table.add_row("rejected by torch.fx's tracer", str(len(rejected)))
    table.add_row("batch norms in those, gone", f"{folded} of {total}")
    for row in rows:
        if "failed" in row or not row["equal"]:
            table.add_row(row["model"], row.get("failed") or f"error {row['float64_error']:.1e}")
    return table


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Names of timm models.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every model with batch norms.")] = False,
    left: Annotated[bool, typer.Option("--left", help="Those with batch norms left.")] = False,
    again: Annotated[bool, typer.Option("--again", help="Those of other commits too.")] = False,
) -> None:
    """Measure, save after each model, print the totals."""
    console = Console()
    path = RESULTS if names or every or left else OF_FAMILIES
    rows = {row["model"]: row for row in load(path)}
    wanted = names or (timm.list_models() if every else FAMILIES)
    if left:
        wanted = [name for name, row in rows.items() if row.get("kept") or "failed" in row]
    for name in track(to_measure(wanted, rows, again=again or left), "Optimizing"):
        if has_batch_norm(name):
            rows[name] = safely(name)
            save(path, list(rows.values()))
    console.print(summary(list(rows.values())))


if __name__ == "__main__":
    typer.run(main)
