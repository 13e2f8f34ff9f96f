"""Times on a GPU, with a GPU that is played: graphs record calls, events read a counter."""

from __future__ import annotations

from contextlib import nullcontext
from typing import Any

import pytest
import torch

from benchmarks import gpu_clocks
from benchmarks.gpu_clocks import clocks
from benchmarks.gpu_timing import WARM_UPS, cache_bytes, captured, event_ms, kernel_us

L2 = 1000


class Played:
    """A GPU whose every call takes 3 ms."""

    def __init__(self) -> None:
        self.now, self.in_graph, self.graph_size = 0.0, False, 0

    def call(self) -> str:
        """Run, or be recorded."""
        if self.in_graph:
            self.graph_size += 1
        else:
            self.now += 3.0
        return "output"


class Stream:
    """There is one order of things here."""

    def wait_stream(self, other: Stream) -> None:
        """Nothing is to be waited for."""


@pytest.fixture
def played(monkeypatch: pytest.MonkeyPatch) -> Played:
    """Put the played GPU in the place of PyTorch's."""
    made = Played()

    class Graph:
        def __enter__(self) -> None:
            made.in_graph, made.graph_size = True, 0

        def __exit__(self, *error: object) -> None:
            made.in_graph = False
            self.size = made.graph_size

        def replay(self) -> None:
            made.now += 3.0 * self.size

    class Event:
        def __init__(self, enable_timing: bool) -> None:
            assert enable_timing

        def record(self) -> None:
            self.at = made.now

        def elapsed_time(self, end: Event) -> float:
            return end.at - self.at

    stand_ins = {
        "Stream": Stream,
        "current_stream": Stream,
        "stream": lambda stream: nullcontext(),
        "CUDAGraph": Graph,
        "graph": lambda graph: graph,
        "Event": Event,
        "synchronize": lambda: None,
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)
    return made


def test_a_graph_holds_its_calls_and_gives_their_output(played: Played) -> None:
    replay = captured(played.call, repeats=4)
    assert played.now == 3.0 * WARM_UPS
    assert replay() == "output"
    assert played.now == 3.0 * (WARM_UPS + 4)


def test_the_time_of_a_kernel_is_that_of_one_call(played: Played) -> None:
    assert kernel_us(played.call) == pytest.approx(3000.0)


def test_events_leave_out_what_comes_before(played: Played) -> None:
    def before() -> None:
        played.now += 100.0

    assert event_ms(played.call, 3, before) == [3.0] * 3
    assert played.now == 3.0 * 4 + 300.0


def test_the_clocks_tell_of_both_models_with_and_without_a_graph(
    played: Played, monkeypatch: pytest.MonkeyPatch
) -> None:
    def made(*setting: Any) -> dict[str, Any]:
        assert setting == ("m", "float16", 1, "cuda")
        ways = ("eager", "eager channels_last", "bnfuse", "bnfuse channels_last")
        return dict.fromkeys(ways, played.call)

    monkeypatch.setattr(gpu_clocks, "calls", made)
    monkeypatch.setattr(gpu_clocks, "flusher", lambda size: lambda: None)
    monkeypatch.setattr(gpu_clocks, "cache_bytes", lambda: L2)
    found = clocks("m", "float16", count=5)
    assert found["l2_bytes"] == L2
    names = ["eager channels_last", "bnfuse channels_last"]
    assert list(found["candidates"]) == [n + g for n in names for g in ("", " graph")]
    for one in found["candidates"].values():
        assert list(one) == ["wall", "warm", "cold"]
        assert one["warm"]["p50"] == one["cold"]["p50"] == 3.0
        assert one["wall"]["n"] == 5


def test_the_cache_has_a_size_where_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    class Properties:
        L2_cache_size = L2

    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: Properties())
    assert cache_bytes() == L2
    Properties.L2_cache_size = 0
    assert cache_bytes() == 128 * 2**20
