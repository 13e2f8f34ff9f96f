"""Time several callables against each other in alternating blocks of calls."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

CALLS_PER_BLOCK = 6


def alternating_blocks(
    candidates: Mapping[str, Callable[[], object]],
    rounds: int,
    *,
    is_cuda: bool = False,
    on_round: Callable[[], None] = lambda: None,
) -> dict[str, list[list[float]]]:
    """Return the times of calls in milliseconds: for each candidate a list of blocks of calls.

    Every round runs a block of each candidate, in an order that turns by one each round, so that
    slow phases of the machine and the order itself fall on all alike. The first call of each block
    is dropped: threads and caches that served another candidate have to come back first.

    Args:
        candidates: What to call, by name.
        rounds: How many blocks each candidate gets.
        is_cuda: Whether calls return before their work is done.
        on_round: Called after each round.
    """
    names = list(candidates)
    times: dict[str, list[list[float]]] = {name: [] for name in names}
    for turn in range(rounds):
        start = turn % len(names)
        for name in names[start:] + names[:start]:
            block = [_timed(candidates[name], is_cuda) for _ in range(CALLS_PER_BLOCK)]
            times[name].append(block[1:])
        on_round()
    return times


def _timed(call: Callable[[], object], is_cuda: bool) -> float:
    """Return how long a call takes until its work is done, in milliseconds."""
    if is_cuda:
        torch.cuda.synchronize()
    start = time.perf_counter()
    call()
    if is_cuda:
        torch.cuda.synchronize()
    return (time.perf_counter() - start) * 1e3
