"""Fold in half precision and compare the errors with those of the unfused model in half precision.

``python benchmarks/half.py`` takes one model of each of 50 families of timm, names after it those
models, in float16 and bfloat16 and in two settings:

- ``converted``: ``optimize(model, dtype=d)`` beside ``model.to(d)``; the reference is the model as
  it is, in float32;
- ``stored``: ``optimize(model)`` of a model stored in half precision beside that model; the
  reference has the stored values.

The error is the root mean square over all outputs of 16 inputs, against the reference in float64,
and the ratio is bnfuse's error over the unfused model's. ``with_example`` is bnfuse given two other
inputs of the same size as an example. Beside them stands
``torch.fx.experimental.optimization.fuse``, of the float32 model and then converted, or of the
stored one; it folds ``nn.BatchNorm`` alone and leaves timm's own class of it as it is. A model
whose unfused output is not finite has no ratio.

Weights are timm's random ones, statistics those of ``bnfuse.zoo.randomize_statistics``, inputs
normal noise that both dtypes hold exactly, of the smallest size that a model takes from 64
pixels on, to keep the run short. ``spread`` says how much of an output differs between inputs: with
random weights and noise it is a small part, so what is compared is mostly what rounded weights do
to every input alike. Convolutions and matrix products in float16 are computed in float32 and
rounded, as GPUs do it; those of PyTorch on most CPUs round alike and take ten times as long.

Rewrites are not checked here, which ``benchmarks/zoo.py`` does for the same models.

Results go to ``benchmarks/results/half.json`` after each row; a second run goes on where the first
stopped, and ``--again`` starts over.
"""

from __future__ import annotations

import copy
import math
import sys
import warnings
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from torch import fx
from torch.fx.experimental.optimization import fuse
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use
from torch.nn.modules.batchnorm import _BatchNorm
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_map_only

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

import bnfuse
from benchmarks.half_table import SETTINGS, as_table, totals
from benchmarks.storage import current_commit, load, save
from benchmarks.zoo import FAMILIES
from bnfuse.zoo import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from torch import Tensor, nn

RESULTS = Path(__file__).parent / "results" / "half.json"
DTYPES = {"float16": torch.float16, "bfloat16": torch.bfloat16}
PRODUCTS = (
    torch.conv1d, torch.conv2d, torch.conv3d, torch.conv_transpose2d, F.linear, torch.matmul,
    torch.bmm, torch.Tensor.matmul, torch.Tensor.__matmul__,
)  # fmt: skip
INPUTS = 16
AT_ONCE = 4
SIZES = (64, 96, 128, 160, 192, 224, 256, 288)


class WideProducts(TorchFunctionMode):
    """Computes convolutions and matrix products in float16 with float32 sums, rounded once."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        """Run a function, or what stands for it."""
        given = kwargs or {}
        if func in PRODUCTS and args and args[0].dtype is torch.float16:
            wide, named = tree_map_only(torch.Tensor, torch.Tensor.float, (args, given))
            return func(*wide, **named).half()
        return func(*args, **given)


def smallest_input(model: nn.Module, example: Tensor) -> tuple[int, ...]:
    """Return the shape of one input, of the smallest size that a model takes."""
    generator, model = torch.Generator().manual_seed(0), copy.deepcopy(model)
    for size in SIZES:
        shape = (example.shape[1], size, size)
        try:
            with torch.no_grad():
                made = model(torch.randn(2, *shape, generator=generator))
        except Exception:  # whatever a forward raises on a size that is not its own
            continue
        if torch.isfinite(made).all():
            return shape
    return tuple(example.shape[1:])


def outputs(model: nn.Module, inputs: Tensor) -> Tensor:
    """Return the outputs in float64, a few inputs at a time.

    A copy is run: some models keep what they compute, in the dtype of the moment.
    """
    copied = copy.deepcopy(model)
    with torch.no_grad(), WideProducts():
        return torch.cat([copied(part).double() for part in torch.split(inputs, AT_ONCE)])


def fused_by_torch_fx(model: nn.Module) -> nn.Module | None:
    """Return what PyTorch's own fold makes of a model; None where it raises."""
    try:
        return fuse(model)
    except Exception:  # most often its tracer's
        return None


def candidates(
    model: nn.Module, dtype: torch.dtype, setting: str, example: Tensor
) -> dict[str, Callable[[], nn.Module | None]]:
    """Return what is compared with the reference, each to be made when it is its turn."""
    wanted = dtype if setting == "converted" else None

    def by_torch_fx() -> nn.Module | None:
        fused = fused_by_torch_fx(model)
        return None if fused is None else fused.to(dtype)

    return {
        "unfused": lambda: copy.deepcopy(model).to(dtype),
        "bnfuse": lambda: bnfuse.optimize(model, dtype=wanted, validate=False),
        "with_example": lambda: bnfuse.optimize(model, (example,), dtype=wanted, validate=False),
        "torch_fx": by_torch_fx,
    }


def gone(model: nn.Module) -> int:
    """Return how many batch norms a fused model is rid of."""
    report = bnfuse.report(model)
    return len(report.folded) + len(report.merged)


def norms_called(model: nn.Module) -> int | None:
    """Return how many calls of batch norms a graph has, None where it is no graph."""
    if not isinstance(model, fx.GraphModule):
        return None
    nodes = model.graph.nodes
    called = [model.get_submodule(str(node.target)) for node in nodes if node.op == "call_module"]
    as_functions = sum(node.target in (F.batch_norm, torch.batch_norm) for node in nodes)
    return as_functions + sum(isinstance(module, _BatchNorm) for module in called)


def rms(values: Tensor) -> float:
    """Return the root mean square."""
    return float(values.square().mean().sqrt())


def measured(name: str, seed: int = 0) -> Iterator[dict[str, Any]]:
    """Yield a row for each dtype and setting of one model."""
    loaded = load_model(f"timm:{name}", seed=seed)
    single = loaded.model
    shape = smallest_input(single, loaded.example_inputs[0])
    drawn = torch.randn(INPUTS, *shape, generator=torch.Generator().manual_seed(seed + 1))
    drawn = drawn.bfloat16().half().float()  # what both can hold
    example = torch.randn(2, *shape, generator=torch.Generator().manual_seed(seed + 2))
    folds = gone(bnfuse.optimize(single, validate=False))
    of_single = outputs(copy.deepcopy(single).double(), drawn.double())
    for (label, dtype), setting in product(DTYPES.items(), SETTINGS):
        model = copy.deepcopy(single).to(dtype) if setting == "stored" else single
        inputs, given = drawn.to(dtype), example.to(dtype) if setting == "stored" else example
        wanted = of_single
        if setting == "stored":
            wanted = outputs(copy.deepcopy(model).double(), drawn.double())
        row: dict[str, Any] = {
            "model": name,
            "dtype": label,
            "setting": setting,
            "input": shape,
            "rms": rms(wanted),
            "spread": rms(wanted - wanted.mean(0)) / rms(wanted),
            "folds_in_float32": folds,
        }
        for candidate, make in candidates(model, dtype, setting, given).items():
            made = make()
            error = math.nan if made is None else rms(outputs(made, inputs) - wanted)
            row[candidate] = error if math.isfinite(error) else None
            if candidate == "bnfuse" and made is not None:
                row["folds"] = gone(made)
            if candidate == "torch_fx" and made is not None:
                row["left_by_torch_fx"] = norms_called(made)
        yield row | {"commit": current_commit()}


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Names of timm models.")] = None,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
    seed: Annotated[int, typer.Option(help="The seed of weights and inputs.")] = 0,
    results: Annotated[Path, typer.Option(help="The file of results.")] = RESULTS,
) -> None:
    """Measure what is missing, save after each row, print both tables."""
    warnings.filterwarnings("ignore", module="timm|torch")
    wanted = names or list(FAMILIES)
    rows = [row for row in load(results) if not (again and row["model"] in wanted)]
    counts = {name: sum(row["model"] == name for row in rows) for name in wanted}
    complete = len(DTYPES) * len(SETTINGS)
    for name in track([name for name in wanted if counts[name] < complete], "Folding"):
        rows = [row for row in rows if row["model"] != name]
        for row in measured(name, seed):
            rows.append(row)
            save(results, rows)
    console = Console(width=150)
    console.print(as_table(rows))
    console.print(totals(rows))


if __name__ == "__main__":
    typer.run(main)
