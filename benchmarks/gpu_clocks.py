"""What the clocks say of one model at batch 1: events or the wall, a cold or a warm cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from benchmarks.gpu_guard import guarded
from benchmarks.gpu_models import calls
from benchmarks.gpu_timing import cache_bytes, captured, event_ms, flusher, summary, wall_ms

if TYPE_CHECKING:
    from collections.abc import Callable

    Call = Callable[[], Any]

COUNT = 1000


def clocks(model: str, dtype: str, count: int = COUNT) -> dict[str, Any]:
    """Time a model in channels_last, with and without a CUDA graph, in three ways.

    ``wall`` is the clock until the work is done, ``warm`` the GPU's events around a call, ``cold``
    those around a call before which more than the L2 cache was written. The weights of ResNet-50
    in half precision, 51 MB, fit into the cache of the largest GPUs, so a loop over one model
    flatters it there.
    """
    flush = flusher(cache_bytes())
    found = {}
    for title, call in calls(model, dtype, 1, "cuda").items():
        if "channels_last" in title:
            found[title] = guarded(_three_ways, call, flush, count)
            found[f"{title} graph"] = guarded(_of_graph, call, flush, count)
    return {"l2_bytes": cache_bytes(), "candidates": found}


def _of_graph(call: Call, flush: Call, count: int) -> dict[str, Any]:
    return _three_ways(captured(call), flush, count)


def _three_ways(call: Call, flush: Call, count: int) -> dict[str, Any]:
    return {
        "wall": summary(wall_ms(call, count)),
        "warm": summary(event_ms(call, count)),
        "cold": summary(event_ms(call, count, flush)),
    }
