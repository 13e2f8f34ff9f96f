"""Times on a GPU: by events or the clock, alone or in CUDA graphs, with a cold or a warm cache."""

from __future__ import annotations

import statistics
import time
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], Any]

WARM_UPS = 3
REPEATS, REPLAYS = 10, 20
ENOUGH_FOR_P99 = 1000
MIB = 2**20


def captured(call: Call, repeats: int = 1) -> Call:
    """Return the replay of a CUDA graph that holds some calls in a row.

    The calls run on a side stream first, as graphs ask for: what is allocated, compiled or chosen
    on first use is then done. Inputs and outputs keep their places in memory.

    Raises:
        RuntimeError: Something in the call cannot be captured.
    """
    stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]  # torch's
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM_UPS):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for _ in range(repeats):
            output = call()

    def replay() -> Any:
        graph.replay()
        return output

    return replay


def kernel_us(call: Call) -> float:
    """Return the microseconds of GPU time of a call, without what launching it costs.

    It is the median over replays of a CUDA graph that holds the call ``REPEATS`` times, so the
    cache is as warm as the call before leaves it.
    """
    replay = captured(call, REPEATS)
    return statistics.median(event_ms(replay, REPLAYS)) / REPEATS * 1e3


def event_ms(call: Call, n: int, before: Call = lambda: None) -> list[float]:
    """Return the milliseconds between CUDA events around each of some calls.

    Args:
        call: What to time.
        n: How often.
        before: Called before each of them, outside the time.
    """
    call()
    pairs = []
    for _ in range(n):
        start, end = _event(), _event()
        before()
        start.record()
        call()
        end.record()
        pairs.append((start, end))
    torch.cuda.synchronize()
    return [start.elapsed_time(end) for start, end in pairs]


def wall_ms(call: Call, n: int) -> list[float]:
    """Return the milliseconds by the clock of each of some calls, until their work is done."""
    times = []
    for _ in range(n + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        call()
        torch.cuda.synchronize()
        times.append((time.perf_counter() - start) * 1e3)
    return times[1:]


def summary(times: list[float]) -> dict[str, Any]:
    """Return the count, minimum, mean, median and 99th percentile, that one from 1000 on."""
    told = {"n": len(times), "min": min(times), "mean": statistics.fmean(times)}
    told["p50"] = statistics.median(times)
    if len(times) >= ENOUGH_FOR_P99:
        told["p99"] = statistics.quantiles(times, n=100, method="inclusive")[-1]
    return told


def flusher(cache_bytes: int, device: str = "cuda") -> Call:
    """Return what empties a cache: it writes a buffer of twice the size."""
    buffer = torch.empty(2 * cache_bytes, dtype=torch.uint8, device=device)
    return buffer.zero_


def cache_bytes() -> int:
    """Return the size of the GPU's L2 cache, 128 MiB where it is not told."""
    properties = torch.cuda.get_device_properties(torch.cuda.current_device())
    return int(getattr(properties, "L2_cache_size", 0)) or 128 * MIB


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]  # torch's
