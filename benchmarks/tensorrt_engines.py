"""Build TensorRT engines of folded models and of the same models as they are.

``python benchmarks/tensorrt_engines.py`` takes four models, names after it those models. Each is
written in float16 with an open batch size three times: by bnfuse; by plain ``torch.onnx.export``,
which folds what stands directly behind a convolution; and by that with constants folded and nothing
else, so that every batch norm is left. Each file is built into an engine three times, in
alternation, which takes ``tensorrt_rtx`` and no GPU. Counted are the layers that the library is
given. Engines are not run. Results go to ``benchmarks/results/tensorrt_engines.json`` after each
model; a second run goes on where the first stopped, and ``--again`` measures anew.
"""

from __future__ import annotations

import hashlib
import statistics
import sys
import tempfile
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from onnxscript import optimizer
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

import bnfuse
from benchmarks.storage import load, save
from bnfuse.export.tensorrt_build import build
from bnfuse.export.tensorrt_library import find_library
from bnfuse.export.tensorrt_ranges import ranges_of
from bnfuse.zoo import load_model

if TYPE_CHECKING:
    from torch import nn

RESULTS = Path(__file__).parent / "results" / "tensorrt_engines.json"
MODELS = (
    "torchvision:resnet50",
    "timm:mobilenetv3_large_100",
    "timm:repvgg_a0",
    "timm:levit_128s",
)
ROUNDS = 3
KINDS = ("bnfuse", "torch.onnx", "unfolded")


def plain(model: nn.Module, x: torch.Tensor, path: Path, *, optimize: bool) -> None:
    """Write a model in float16 as ``torch.onnx.export`` does."""
    shapes = ({0: torch.export.Dim("batch", max=64)},)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model.half(),
            (torch.cat([x, x]).half(),),
            dynamo=True,
            dynamic_shapes=shapes,
            optimize=optimize,
            verbose=False,
        )
    if program is None:
        raise RuntimeError("torch.onnx returned nothing")
    if not optimize:  # TensorRT wants axes and shapes as constants
        optimizer.fold_constants(program.model)
        optimizer.remove_unused_nodes(program.model)
    program.save(path)


def written(name: str, folder: Path) -> dict[str, Path]:
    """Write the three files of a model."""
    files = {kind: folder / f"{kind}.onnx" for kind in KINDS}
    loaded = load_model(name)
    bnfuse.export_onnx(
        loaded.model, files["bnfuse"], loaded.example_inputs, dtype=torch.float16, verify=False
    )
    for kind in KINDS[1:]:
        (x,) = loaded.example_inputs
        plain(load_model(name).model, x, files[kind], optimize=kind == "torch.onnx")
    return files


def measured(name: str) -> dict[str, Any]:
    """Build the engines of one model."""
    library = find_library("tensorrt_rtx")
    loaded = load_model(name)
    ranges = ranges_of(loaded.model, (loaded.example_inputs, {}), None)
    seconds: dict[str, list[float]] = {kind: [] for kind in KINDS}
    digests: dict[str, set[str]] = {kind: set() for kind in KINDS}
    row: dict[str, Any] = {"model": name, "library": library.described}
    with tempfile.TemporaryDirectory() as folder:
        files = written(name, Path(folder))
        for _ in range(ROUNDS):
            for kind, path in files.items():
                made = build(library, path, ranges, library.chosen(None))
                seconds[kind].append(made.seconds)
                digests[kind].add(hashlib.sha256(made.engine).hexdigest())
                row[kind] = {
                    "layers": sum(made.layers.values()),
                    "by_kind": made.layers,
                    "bytes": len(made.engine),
                    "input": made.inputs[0].dtype,
                    "batches": [made.inputs[0].smallest[0], made.inputs[0].largest[0]],
                }
    for kind in KINDS:
        row[kind] |= {
            "seconds": statistics.median(seconds[kind]),
            "all_seconds": seconds[kind],
            "distinct_engines": len(digests[kind]),
            "sha256": sorted(digests[kind])[0],
        }
    return row


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each model and way to write it."""
    columns = ("model", "file", "layers", "SCALE", "CONVOLUTION", "build", "MB", "equal bytes")
    table = Table(*columns, box=None)
    for row in rows:
        for kind in KINDS:
            made = row[kind]
            table.add_row(
                row["model"],
                kind,
                str(made["layers"]),
                str(made["by_kind"].get("SCALE", 0)),
                str(made["by_kind"].get("CONVOLUTION", 0)),
                f"{made['seconds']:.2f} s",
                f"{made['bytes'] / 1e6:.1f}",
                "yes" if made["distinct_engines"] == 1 else "no",
            )
    return table


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Models as bnfuse names them.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
) -> None:
    """Build what is missing, save after each model, print the table."""
    wanted = names or list(MODELS)
    rows = [row for row in load(RESULTS) if not (again and row["model"] in wanted)]
    known = {row["model"] for row in rows}
    for name in track([name for name in wanted if name not in known], "Building"):
        rows.append(measured(name))
        save(RESULTS, rows)
    Console(width=120).print(as_table(rows))


if __name__ == "__main__":
    typer.run(main)
