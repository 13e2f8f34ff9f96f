"""Whether ``bnfuse.verify`` sees a small fault in any convolution of ResNet-50, and no other.

``python benchmarks/sensitivity.py`` makes three faults in the optimized model in float32, for each
convolution in turn: the weights of one output channel changed by 1%, two output channels swapped,
the bias of one output channel set to 0. Then it verifies 1,000 honest results: ``--weights`` models
with random weights and statistics of their own, each on as many examples as make up the number.

The channel is picked by measurement: of nine spread over the layer, those are alive whose output
made 1% larger, weights and bias, moves the model's output in float64; the one that moves it the
median amount of them is taken, and swapped with the next stronger one. ``--rank`` takes another
quantile than the median. The images are small, 64 by 64, which leaves the last layers four points:
two in each set of inputs for faults, one for honest results.

Results go to ``benchmarks/results/sensitivity.json`` as they are made; a second run goes on where
the first stopped, ``--again`` starts over.
"""

from __future__ import annotations

import copy
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import torch
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table
from torch import nn

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

import bnfuse
from benchmarks.storage import load, save
from bnfuse.validation.inputs import input_sets
from bnfuse.validation.verify import INPUT_SETS
from bnfuse.zoo import load_model

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from bnfuse.validation import Verification

RESULTS = Path(__file__).parent / "results" / "sensitivity.json"
MODEL = "torchvision:resnet50"
CANDIDATES = 9

Channels = tuple[int, int]
Layer = nn.Conv2d


def change(layer: Layer, channels: Channels) -> None:
    """Change the weights of the first channel by 1%."""
    layer.weight[channels[0]] *= 1.01


def swap(layer: Layer, channels: Channels) -> None:
    """Swap the weights and the biases of two channels."""
    for tensor in layer.parameters():
        tensor[list(channels)] = tensor[list(reversed(channels))]


def drop_bias(layer: Layer, channels: Channels) -> None:
    """Set the bias of the first channel to 0."""
    if layer.bias is not None:
        layer.bias[channels[0]] = 0.0


FAULTS: dict[str, Callable[[Layer, Channels], None]] = {
    "1% change": change,
    "swapped": swap,
    "bias dropped": drop_bias,
}


def convolutions(model: nn.Module) -> dict[str, Layer]:
    """Return the convolutions of a model by name."""
    return {name: m for name, m in model.named_modules() if isinstance(m, nn.Conv2d)}


def effects(model: nn.Module, layer: Layer, x: torch.Tensor) -> dict[int, float]:
    """Return how far the model's output moves, RMS, as a channel's output grows by 1%.

    Channels that do not move it at all are left out: they are dead.

    Args:
        model: The model in float64.
        layer: A convolution of it.
        x: The input.
    """
    before = model(x)
    step = max(layer.out_channels // CANDIDATES, 1)
    found: dict[int, float] = {}
    for channel in range(step // 2, layer.out_channels, step)[:CANDIDATES]:
        kept = [tensor[channel].clone() for tensor in layer.parameters()]
        for tensor in layer.parameters():
            tensor[channel] *= 1.01
        moved = float((model(x) - before).square().mean().sqrt())
        for tensor, values in zip(layer.parameters(), kept, strict=True):
            tensor[channel] = values
        if moved > 0.0:
            found[channel] = moved
    return found


def picked(moved: dict[int, float], rank: float) -> Channels:
    """Return the channel of a quantile of the effects, and the next stronger one."""
    channels = sorted(moved, key=lambda channel: moved[channel])
    place = min(int(rank * len(channels)), len(channels) - 2)
    return channels[place], channels[place + 1]


def ratio(outcome: Verification) -> float:
    """Return the error as a multiple of what is allowed."""
    return max(output.max_abs_error / output.tolerance for output in outcome.outputs)


def faults(size: int, seed: int, rank: float, known: set[Any]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of one convolution after another."""
    loaded = load_model(MODEL, shapes=[f"2x3x{size}x{size}"], seed=seed)
    fused = bnfuse.optimize(loaded.model)
    wide = copy.deepcopy(fused).double()
    sets = input_sets(loaded.example_inputs, None, INPUT_SETS, seed=0)
    x = torch.cat([args[0] for args, _ in sets]).double()
    for name, layer in track(convolutions(fused).items(), f"Faults, seed {seed}"):
        if all((size, seed, rank, name, fault) in known for fault in FAULTS):
            continue
        moved = effects(wide, convolutions(wide)[name], x)
        channels = picked(moved, rank)
        rows = []
        for fault, make in FAULTS.items():
            kept = copy.deepcopy(layer.state_dict())
            make(layer, channels)
            outcome = bnfuse.verify(loaded.model, fused, loaded.example_inputs, device="cpu")
            layer.load_state_dict(kept)
            where = {"size": size, "seed": seed, "rank": rank, "layer": name, "fault": fault}
            what = {"channels": channels, "alive": len(moved), "effect": moved[channels[0]]}
            rows.append(where | what | {"ratio": ratio(outcome), "passed": outcome.passed})
        yield rows


def honest(size: int, seed: int, numbers: list[int]) -> list[dict[str, Any]]:
    """Verify one honest result on several examples."""
    loaded = load_model(MODEL, shapes=[f"2x3x{size}x{size}"], seed=seed)
    fused = bnfuse.optimize(loaded.model)
    rows = []
    for number in numbers:
        x = torch.randn(1, 3, size, size, generator=torch.Generator().manual_seed(number))
        outcome = bnfuse.verify(loaded.model, fused, (x,), device="cpu", seed=number)
        found = {"ratio": ratio(outcome), "passed": outcome.passed}
        rows.append({"size": size, "seed": seed, "input": number, "fault": "none"} | found)
    return rows


def key(row: dict[str, Any]) -> tuple[Any, ...]:
    """Return what names a row."""
    names = ("size", "seed", "input") if row["fault"] == "none" else ("size", "seed", "rank")
    return (
        *(row[name] for name in names),
        *((row["layer"], row["fault"]) if "layer" in row else ()),
    )


def as_table(rows: list[dict[str, Any]]) -> Table:
    """Return a row for each kind of fault, size and rank."""
    table = Table("fault", "size", "quantile", "runs", "found", "least", "median", "most", box=None)
    groups: dict[tuple[Any, ...], list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault((row["fault"], row["size"], row.get("rank", "")), []).append(row)
    for (fault, size, rank), group in sorted(groups.items(), key=str):
        ratios = sorted(row["ratio"] for row in group)
        figures = (f"{ratios[place]:.3g}" for place in (0, len(ratios) // 2, -1))
        found = sum(not row["passed"] for row in group)
        table.add_row(fault, str(size), str(rank), f"{len(group):,}", f"{found:,}", *figures)
    return table


def main(
    runs: Annotated[int, typer.Option(help="How many honest results to verify.")] = 1000,
    weights: Annotated[int, typer.Option(help="How many models they come from.")] = 25,
    seed: Annotated[int, typer.Option(help="The seed of the model with faults.")] = 0,
    size: Annotated[int, typer.Option(help="The height and the width of the images.")] = 64,
    rank: Annotated[float, typer.Option(help="Which channel: a quantile of the effects.")] = 0.5,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
) -> None:
    """Measure what is missing, save, print the table."""
    torch.set_grad_enabled(False)
    rows = [] if again else load(RESULTS)
    known = {key(row) for row in rows}
    for made in faults(size, seed, rank, known):
        rows += made
        save(RESULTS, rows)
    numbers = {s: list(range(s, runs, weights)) for s in range(weights)}
    for s, given in track(numbers.items(), "Honest results"):
        missing = [number for number in given if (size, s, number) not in known]
        if missing:
            rows += honest(size, s, missing)
            save(RESULTS, rows)
    Console(width=120).print("Ratios are errors as multiples of what is allowed.")
    Console(width=120).print(as_table(rows))


if __name__ == "__main__":
    typer.run(main)
