"""The order in which candidates are called and what is kept of the times."""

from __future__ import annotations

import itertools

import pytest
import torch

from bnfuse.bench.measure import CALLS_PER_BLOCK, alternating_blocks


class Recorder:
    """Makes callables that write down when they are called."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def candidates(self, names: str) -> dict[str, object]:
        """Return a callable for each letter."""
        return {name: (lambda name=name: self.calls.append(name)) for name in names}

    @property
    def blocks(self) -> list[tuple[str, int]]:
        """What was called, as runs of the same candidate."""
        return [(name, len(list(run))) for name, run in itertools.groupby(self.calls)]


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the clock go on by one millisecond more at each reading: 1, 3, 6, 10, ... ms."""
    readings = itertools.accumulate(itertools.count(1))
    monkeypatch.setattr("bnfuse.bench.measure.time.perf_counter", lambda: next(readings) / 1e3)


def blocks_of(names: str, rounds: int) -> tuple[Recorder, dict[str, list[list[float]]]]:
    """Measure recording candidates."""
    recorder = Recorder()
    made = {name: call for name, call in recorder.candidates(names).items() if callable(call)}
    return recorder, alternating_blocks(made, rounds)


def test_order_turns_by_one_each_round() -> None:
    recorder, _ = blocks_of("abc", rounds=4)
    order = ["a", "b", "c", "b", "c", "a", "c", "a", "b", "a", "b", "c"]
    calls = [name for name in order for _ in range(CALLS_PER_BLOCK)]
    assert recorder.calls == calls


def test_every_candidate_stands_at_every_place_equally_often() -> None:
    recorder, _ = blocks_of("abc", rounds=3)
    names = recorder.calls[::CALLS_PER_BLOCK]
    places = {name: sorted(i % 3 for i, n in enumerate(names) if n == name) for name in "abc"}
    assert places == {name: [0, 1, 2] for name in "abc"}


@pytest.mark.usefixtures("clock")
def test_first_call_of_each_block_is_dropped() -> None:
    recorder, times = blocks_of("a", rounds=2)
    assert recorder.blocks == [("a", 2 * CALLS_PER_BLOCK)]
    # The i-th call takes 2 i ms by this clock; calls 1 and 7 are the first of their blocks.
    assert [[round(ms) for ms in block] for block in times["a"]] == [
        [4, 6, 8, 10, 12],
        [16, 18, 20, 22, 24],
    ]


@pytest.mark.usefixtures("clock")
def test_times_belong_to_their_candidate() -> None:
    _, times = blocks_of("ab", rounds=2)
    as_calls = {
        name: [[round(ms) // 2 for ms in b] for b in blocks] for name, blocks in times.items()
    }
    assert as_calls == {
        "a": [[2, 3, 4, 5, 6], [20, 21, 22, 23, 24]],
        "b": [[8, 9, 10, 11, 12], [14, 15, 16, 17, 18]],
    }


def test_one_block_of_each_candidate_in_each_round() -> None:
    _, times = blocks_of("abcd", rounds=5)
    assert {name: len(blocks) for name, blocks in times.items()} == dict.fromkeys("abcd", 5)
    assert {len(block) for blocks in times.values() for block in blocks} == {CALLS_PER_BLOCK - 1}


def test_no_rounds_call_nothing() -> None:
    recorder, times = blocks_of("ab", rounds=0)
    assert recorder.calls == []
    assert times == {"a": [], "b": []}


def test_progress_is_told_after_each_round() -> None:
    calls: list[str] = []
    alternating_blocks({"a": lambda: calls.append("a")}, 3, on_round=lambda: calls.append("round"))
    assert calls == (["a"] * CALLS_PER_BLOCK + ["round"]) * 3


def test_cuda_is_waited_for_before_and_after_each_call(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: calls.append("wait"))
    alternating_blocks({"a": lambda: calls.append("a")}, 1, is_cuda=True)
    assert calls == ["wait", "a", "wait"] * CALLS_PER_BLOCK
    calls.clear()
    alternating_blocks({"a": lambda: calls.append("a")}, 1)
    assert calls == ["a"] * CALLS_PER_BLOCK


def test_exception_of_a_candidate_is_not_swallowed() -> None:
    def fails() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match=r"^no$"):
        alternating_blocks({"a": fails}, 1)
