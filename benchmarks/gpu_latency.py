"""Latency of a model on the GPU: eager, optimized and compiled, with and without a CUDA graph."""

from __future__ import annotations

import copy
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import torch

from benchmarks.gpu_guard import deviation, guarded
from benchmarks.gpu_models import batch_of, calls, loaded
from benchmarks.gpu_timing import captured
from bnfuse.bench.measure import alternating_blocks
from bnfuse.bench.result import Timing

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    Call = Callable[[], Any]

SECONDS = 2.0
FEWEST_ROUNDS = 10
MODES: dict[str, dict[str, Any]] = {
    "default": {},
    "reduce-overhead": {"mode": "reduce-overhead"},
    "freezing": {"options": {"freezing": True}},
    "max-autotune": {"mode": "max-autotune"},
}
"""What ``torch.compile`` is given."""
OWN_GRAPHS = ("reduce-overhead", "max-autotune")
"""Modes that replay CUDA graphs of their own; none is made by hand around them."""


def eager(
    model: str, dtype: str, batch: int, device: str = "cuda", seconds: float = SECONDS
) -> dict[str, Any]:
    """Time a model as it is and optimized, in both layouts, each with and without a CUDA graph."""
    made = calls(model, dtype, batch, device)
    return measured(made, {name: partial(captured, call) for name, call in made.items()}, seconds)


def compiled(
    model: str,
    dtype: str,
    batch: int,
    mode: str,
    device: str = "cuda",
    seconds: float = SECONDS,
) -> dict[str, Any]:
    """Time a compiled model beside the eager one and the optimized one in channels_last.

    ``compile_s`` is the time until the third call is over: modes with CUDA graphs compile in the
    first, warm up in the second and record in the third.
    """
    torch.compiler.reset()
    made = calls(model, dtype, batch, device)
    made = {name: made[name] for name in ("eager", "bnfuse channels_last")}
    module = copy.deepcopy(loaded(model).model).to(device, getattr(torch, dtype))
    images = batch_of(model, dtype, batch).to(device)
    name = f"compile {mode}"
    made[name] = partial(torch.compile(module, **MODES[mode]), images)
    start = time.perf_counter()
    for _ in range(3):
        made[name]().cpu()
    compile_s = time.perf_counter() - start
    by_hand = ["bnfuse channels_last"] + [name] * (mode not in OWN_GRAPHS)
    graphs = {title: partial(captured, made[title]) for title in by_hand}
    return {"compile_s": compile_s, **measured(made, graphs, seconds)}


def measured(
    made: Mapping[str, Call], graphs: Mapping[str, Callable[[], Call]], seconds: float
) -> dict[str, Any]:
    """Run everything in alternating blocks of calls for about so long.

    Args:
        made: The calls; the first is what the others are compared with.
        graphs: What captures some of them, by the same names; one that fails is told in the rows.
        seconds: How long.
    """
    running, failed = dict(made), {}
    for name, capture in graphs.items():
        found = guarded(lambda: {"call": capture()})  # noqa: B023  (called before the next turn)
        if "failed" in found:
            failed[f"{name} graph"] = found
        else:
            running[f"{name} graph"] = found["call"]
    outputs = {name: call().clone() for name, call in running.items()}
    wanted = next(iter(outputs.values()))
    rows = _timed(running, seconds, wanted.is_cuda)
    for name, output in outputs.items():
        rows[name]["difference"] = deviation(output, wanted.double())
    return {"candidates": rows | failed}


def _timed(running: Mapping[str, Call], seconds: float, is_cuda: bool) -> dict[str, Any]:
    start = time.perf_counter()
    alternating_blocks(running, 1, is_cuda=is_cuda)  # warm-up, and the length of a round
    rounds = max(FEWEST_ROUNDS, round(seconds / (time.perf_counter() - start)))
    blocks = alternating_blocks(running, rounds, is_cuda=is_cuda)
    timings = [Timing(name, tuple(map(tuple, blocks[name]))) for name in running]
    return {timing.name: _row(timing, timings[0]) for timing in timings}


def _row(timing: Timing, base: Timing) -> dict[str, Any]:
    low, high = timing.spread
    return {
        "ms": timing.median,
        "p10_ms": low,
        "p90_ms": high,
        "ratio": timing.ratio_to(base),
        "calls": len(timing.calls),
    }
