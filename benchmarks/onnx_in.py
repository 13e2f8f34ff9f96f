"""Optimize files of ``torch.onnx.export``, and hold them against what comes from PyTorch itself.

``python benchmarks/onnx_in.py`` takes ten models of timm, names after it those models. Each is
exported by ``torch.onnx.export`` with an open batch, that file is optimized as ``bnfuse optimize
net.onnx -o out.onnx`` does, and ``bnfuse.export_onnx`` writes the PyTorch model to a third file.
Both are checked as always; beside that the first and the second run in onnxruntime at batch 1 and 3
on the same inputs. The column "own" has the error of the model's own float32. Results go to
``benchmarks/results/onnx_in.json`` after each model; a second run goes on where the first stopped,
and ``--again`` measures anew.
"""

from __future__ import annotations

import contextlib
import io
import sys
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import onnx
import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

import bnfuse
from benchmarks.storage import current_commit, load, save
from bnfuse.export.runtime import OnnxSession
from bnfuse.importing import optimize_onnx
from bnfuse.zoo import load_model

if TYPE_CHECKING:
    from torch import Tensor, nn

    from bnfuse.validation import Verification

RESULTS = Path(__file__).parent / "results" / "onnx_in.json"
BATCHES = (1, 3)
MODELS = (
    "levit_128s",
    "nextvit_small",
    "fastvit_t8",
    "repghostnet_050",
    "visformer_tiny",
    "inception_next_atto",
    "repvgg_a0",
    "mobileone_s0",
    "resnet50",
    "mobilenetv3_large_100",
)
MULTIPLYING = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def exported(model: nn.Module, image: Tensor, path: Path) -> None:
    """Write the file that a user without bnfuse has."""
    batch = ({0: torch.export.Dim("batch", min=1)},)
    with warnings.catch_warnings(), contextlib.redirect_stderr(io.StringIO()):
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            model, (torch.cat([image] * 2),), dynamo=True, dynamic_shapes=batch, verbose=False
        )
    if program is None:
        raise RuntimeError("torch.onnx returned nothing")
    program.save(path)


def facts(path: Path) -> dict[str, Any]:
    """Return what a file is made of."""
    proto = onnx.load(path)
    nodes = Counter(node.op_type for node in proto.graph.node)
    values = (*proto.graph.input, *proto.graph.output)
    return {
        "opset": proto.opset_import[0].version,
        "nodes": nodes.total(),
        "batch_norms": nodes["BatchNormalization"],
        "multiplying": sum(nodes[kind] for kind in MULTIPLYING),
        "face": [f"{v.name} {declared(v)}" for v in values],
        "by_type": dict(nodes.most_common()),
    }


def declared(value: Any) -> str:
    """Return the shape that a file declares."""
    dims = value.type.tensor_type.shape.dim
    return "x".join(dim.dim_param or str(dim.dim_value) for dim in dims)


def difference(source: Path, made: Path, image: Tensor) -> float:
    """Return the largest relative difference of two files over both batch sizes."""
    sessions = [OnnxSession(path) for path in (source, made)]
    found = []
    for batch in BATCHES:
        inputs = torch.randn(
            batch, *image.shape[1:], generator=torch.Generator().manual_seed(batch)
        )
        theirs, mine = (session.run(((inputs,), {}))[0] for session in sessions)
        found.append(float((mine - theirs).abs().max() / theirs.abs().max()))
    return max(found)


def own_error(found: Verification | None) -> float:
    """Return by how much the model's own rounding changes its output, relatively."""
    outputs = found.outputs if found is not None else ()
    return max((output.own_error / output.scale for output in outputs), default=0.0)


def measured(name: str) -> dict[str, Any]:
    """Make the three files of a model and compare them."""
    loaded = load_model(f"timm:{name}")
    (image,) = loaded.example_inputs
    with tempfile.TemporaryDirectory() as folder:
        source, made, direct = (Path(folder) / f"{n}.onnx" for n in ("source", "made", "direct"))
        exported(loaded.model, image, source)
        start = time.perf_counter()
        done = optimize_onnx(source, made)
        seconds = time.perf_counter() - start
        bnfuse.export_onnx(loaded.model, direct, (image,), verify=False)
        return {
            "model": name,
            "commit": current_commit(),
            "seconds": seconds,
            "folded": len(done.report.folded) + len(done.report.merged),
            "kept": [row.name for row in done.report.kept],
            "max_rel_error": difference(source, made, image),
            "own_rel_error": own_error(done.verification),
            "source": facts(source),
            "made": facts(made),
            "direct": facts(direct),
        }


def is_reached(row: dict[str, Any]) -> bool:
    """Whether as little is left as from PyTorch, and the file looks the same from outside."""
    made, direct, source = row["made"], row["direct"], row["source"]
    return bool(
        made["batch_norms"] == direct["batch_norms"]
        and made["multiplying"] == direct["multiplying"]
        and made["face"] == source["face"]
        and made["opset"] >= source["opset"]
    )


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each model."""
    columns = ("model", "batch norms", "conv, matmul", "nodes", "to torch.onnx", "own", "s", "")
    table = Table(*columns, box=None, title="torch.onnx.export, from that file, from PyTorch")
    for row in rows:
        files = [row[kind] for kind in ("source", "made", "direct")]
        keys = ("batch_norms", "multiplying", "nodes")
        table.add_row(
            row["model"],
            *(", ".join(str(file[key]) for file in files) for key in keys),
            f"{row['max_rel_error']:.1e}",
            f"{row['own_rel_error']:.1e}",
            f"{row['seconds']:.0f}",
            "" if is_reached(row) else "missed",
        )
    return table


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Names of timm models.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
) -> None:
    """Measure what is missing, save after each model, print the table."""
    wanted = names or list(MODELS)
    rows = [row for row in load(RESULTS) if not (again and row["model"] in wanted)]
    known = {row["model"] for row in rows}
    for name in track([name for name in wanted if name not in known], "Optimizing files"):
        rows.append(measured(name))
        save(RESULTS, rows)
    Console(width=120).print(as_table(rows))


if __name__ == "__main__":
    typer.run(main)
