"""Time optimized models on a CPU beside what a user would take instead.

``python benchmarks/latency.py`` takes eight models of timm, names after it those models. All run in
PyTorch in one process, in alternating blocks of calls whose first is dropped, batch 1, float32,
without gradients. ONNX Runtime and OpenVINO, where they are installed, run the exported files in
another process, their threads not spinning, in alternating blocks with bnfuse's module: the machine
has slow phases. Results go to ``benchmarks/results/latency.json`` after each model; a second run
goes on where the first stopped, and ``--again`` measures anew.
"""

from __future__ import annotations

import copy
import importlib.util
import multiprocessing
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
from rich.console import Console
from rich.progress import track

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))  # for the modules beside this one

import bnfuse
from benchmarks.latency_table import as_table
from benchmarks.onnx_runtime import ASKED, ratio_with_interval
from benchmarks.storage import load, save
from bnfuse.bench.measure import alternating_blocks
from bnfuse.zoo import load_model

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, nn

RESULTS = Path(__file__).parent / "results" / "latency.json"
FASTEST_OF = ("eager_channels_last", "jit_optimize_for_inference", "torch_compile_freezing")
"""What bnfuse is measured against: the fastest of these, model by model."""
TRIES = 2
"""How often an optimization is timed; the shorter time counts."""


def seconds_of(make: Callable[[], Any], tries: int = 1) -> tuple[Any, float]:
    """Return what a function makes, and how long it takes at best."""
    best, made = float("inf"), None
    for _ in range(tries):
        start = time.perf_counter()
        made = make()
        best = min(best, time.perf_counter() - start)
    return made, best


def frozen_script(model: nn.Module, x: Tensor) -> Any:
    """Return what TorchScript makes of a model for inference."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is deprecated
        traced = torch.jit.trace(copy.deepcopy(model), (x,))  # type: ignore[no-untyped-call]  # torch's
        frozen = torch.jit.optimize_for_inference(torch.jit.freeze(traced))
        for _ in range(3):
            frozen(x)
    return frozen


def compiled(model: nn.Module, x: Tensor) -> Any:
    """Return a compiled model with frozen weights, after its first call, which compiles."""
    torch._dynamo.reset()
    with torch._inductor.config.patch(freezing=True):
        run = torch.compile(copy.deepcopy(model))
        run(x)
    return run


def folded_by_torch(model: nn.Module) -> nn.Module:
    """Return what PyTorch's own fuser makes of a model; the model itself where it cannot."""
    try:
        return torch.fx.experimental.optimization.fuse(copy.deepcopy(model))
    except Exception:
        return copy.deepcopy(model)


def candidates(model: nn.Module, x: Tensor) -> tuple[dict[str, Callable[[], Any]], dict[str, Any]]:
    """Return what is to be timed, and the facts found in making it."""
    last = torch.channels_last
    moved = x.contiguous(memory_format=last)
    plain, folded = copy.deepcopy(model).to(memory_format=last), folded_by_torch(model)
    scripted, script_s = seconds_of(lambda: frozen_script(model, x))
    fused, unchecked_s = seconds_of(lambda: bnfuse.optimize(model, validate=False), TRIES)
    fused, checked_s = seconds_of(lambda: bnfuse.optimize(model), TRIES)
    with_example, example_s = seconds_of(lambda: bnfuse.optimize(model, (x,)))
    inductor, compile_s = seconds_of(lambda: compiled(model, x))
    wanted = model(x)
    error = float((fused(x) - wanted).abs().max() / wanted.abs().max())
    runs: dict[str, Callable[[], Any]] = {
        "eager": lambda: model(x),
        "eager_channels_last": lambda: plain(moved),
        "torch_fx_fuse": lambda: folded(x),
        "jit_optimize_for_inference": lambda: scripted(x),
        "torch_compile_freezing": lambda: inductor(x),
        "bnfuse": lambda: fused(x),
        "bnfuse_with_example": lambda: with_example(x),
    }
    return runs, {
        "max_rel_error": error,
        "fused_calls": len(bnfuse.report(fused).fused),
        "bnfuse_s": checked_s,
        "bnfuse_without_checks_s": unchecked_s,
        "bnfuse_with_example_s": example_s,
        "torch_compile_freezing_s": compile_s,
        "jit_optimize_for_inference_s": script_s,
    }


def timed(runs: dict[str, Callable[[], Any]], seconds: float) -> dict[str, list[list[float]]]:
    """Run candidates in alternating blocks for about so long."""
    start = time.perf_counter()
    alternating_blocks(runs, rounds=2)  # warm-up, and the length of a round
    rounds = max(8, round(2 * seconds / (time.perf_counter() - start)))
    return alternating_blocks(runs, rounds)


def file_runs(path: str, x: Any, threads: int) -> dict[str, Callable[[], Any]]:
    """Return the runtimes that are installed, ready to run an ONNX file."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feed = {session.get_inputs()[0].name: x}
    runs: dict[str, Callable[[], Any]] = {"onnxruntime": lambda: session.run(None, feed)}
    if importlib.util.find_spec("openvino"):
        openvino = importlib.import_module("openvino")
        # Left alone it computes in bfloat16 where the processor can.
        precision = {"INFERENCE_PRECISION_HINT": "f32"}
        config = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", **precision}
        network = openvino.Core().compile_model(path, "CPU", config)
        runs["openvino"] = lambda: network([x])
    return runs


def beside_files(name: str, paths: dict[str, str], threads: int, seconds: float) -> dict[str, Any]:
    """Time runtimes for files and bnfuse's module; called in a process of its own.

    Args:
        name: The model of timm.
        paths: Files of it, by what made them.
        threads: How many threads each has.
        seconds: How long to time.

    Returns:
        The medians in ms, and the ratios of the module's to them, each with its 95% interval.
    """
    torch.set_num_threads(threads)
    loaded = load_model(f"timm:{name}")
    fused, (x,) = bnfuse.optimize(loaded.model), loaded.example_inputs
    found = {kind: file_runs(path, x.numpy(), threads) for kind, path in paths.items()}
    runs: dict[str, Callable[[], Any]] = {"bnfuse": lambda: fused(x)}
    runs |= {f"{r}_{kind}": run for kind, by in found.items() for r, run in by.items()}
    with torch.no_grad():
        blocks = timed(runs, seconds)
    ms = {key: float(np.median(block)) for key, block in blocks.items()}
    mine = blocks.pop("bnfuse")
    return {
        "ms": ms,
        "against": {key: ratio_with_interval(mine, block) for key, block in blocks.items()},
    }


def of_files(name: str, model: nn.Module, x: Tensor, threads: int, seconds: float) -> Any:
    """Export a model as it is and by bnfuse, and time the files beside the module."""
    with tempfile.TemporaryDirectory() as folder:
        paths = {kind: str(Path(folder) / f"{kind}.onnx") for kind in ("plain", "bnfuse")}
        program = torch.onnx.export(copy.deepcopy(model), (x,), dynamo=True, verbose=False)
        if program is None:
            raise RuntimeError("torch.onnx returned nothing")
        program.save(paths["plain"])
        bnfuse.export_onnx(model, paths["bnfuse"], (x,), verify=False)
        spawn = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(1, mp_context=spawn) as process:
            return process.submit(beside_files, name, paths, threads, seconds).result()


def measured(name: str, threads: int, seconds: float, *, with_files: bool) -> dict[str, Any]:
    """Prepare and time one model."""
    loaded = load_model(f"timm:{name}")
    model, (x,) = loaded.model, loaded.example_inputs
    with torch.no_grad():
        runs, facts = candidates(model, x)
        blocks = timed(runs, seconds)
    medians = {key: float(np.median(block)) for key, block in blocks.items()}
    fastest = min(FASTEST_OF, key=medians.__getitem__)
    against: dict[str, float] = {}
    for key, other in (("fastest", fastest), ("eager", "eager")):
        names = (f"against_{key}", f"against_{key}_low", f"against_{key}_high")
        against |= zip(names, ratio_with_interval(blocks["bnfuse"], blocks[other]), strict=True)
    row = {"model": name, "threads": threads, "ms": medians, "fastest": fastest, **against, **facts}
    return row | ({"files": of_files(name, model, x, threads, seconds)} if with_files else {})


def main(
    names: Annotated[list[str] | None, typer.Argument(help="Names of timm models.")] = None,
    seconds: Annotated[float, typer.Option(help="How long to time a model.")] = 20.0,
    threads: Annotated[int, typer.Option(help="How many threads.")] = 2,
    files: Annotated[bool, typer.Option(help="Time exported files as well.")] = True,
    again: Annotated[bool, typer.Option("--again", help="Forget earlier results.")] = False,
) -> None:
    """Measure what is missing, save after each model, print the table."""
    wanted = names or list(ASKED)
    rows = [row for row in load(RESULTS) if not (again and row["model"] in wanted)]
    known = {row["model"] for row in rows}
    torch.set_num_threads(threads)
    for name in track([name for name in wanted if name not in known], "Timing"):
        rows.append(measured(name, threads, seconds, with_files=files))
        save(RESULTS, rows)
    Console(width=170).print(as_table(rows))


if __name__ == "__main__":
    typer.run(main)
