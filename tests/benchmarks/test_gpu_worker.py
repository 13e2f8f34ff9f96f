"""The process that does the tasks of the benchmark of GPUs."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from benchmarks import gpu_plan, gpu_worker
from benchmarks.gpu_plan import Task
from benchmarks.gpu_worker import Worker, is_gpu_alive

MODULE = "tests.benchmarks.gpu_stand_ins"
LONG = 300.0


def task(name: str, **arguments: Any) -> Task:
    return Task("probes", f"{MODULE}:{name}", arguments)


@pytest.fixture
def worker() -> Iterator[Worker]:
    """Return a worker that is stopped at the end."""
    made = Worker()
    yield made
    made.stop()


def test_failures_and_crashes_cost_one_task_each(worker: Worker) -> None:
    first = worker.run(task("answer", n=1), LONG)
    assert first is not None
    assert first["n"] == 1
    assert worker.run(task("failing"), LONG) == {"failed": "ValueError: it does not work"}
    second = worker.run(task("answer", n=2), LONG)
    assert second == {"n": 2, "process": first["process"]}
    crashed = worker.run(task("crashing"), LONG)
    assert crashed == {"failed": "crashed with exit code 7: last words"}
    third = worker.run(task("answer", n=3), LONG)
    assert third is not None
    assert third["process"] != first["process"]


def test_a_task_without_an_end_fails_and_one_without_time_is_left(
    worker: Worker, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert worker.run(task("answer", n=1), LONG) is not None
    monkeypatch.setattr(gpu_plan.Task, "limit_s", 0.5)
    assert worker.run(task("hanging"), LONG) == {"failed": "took more than 0.5 s"}
    assert worker.run(task("hanging"), 0.2) is None  # it does not even start in that time


def test_a_process_that_has_lost_its_gpu_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    torch = pytest.importorskip("torch")

    def lost() -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "synchronize", lost)
    assert not is_gpu_alive()
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: None)
    assert is_gpu_alive()


def test_a_task_is_done_by_its_name() -> None:
    assert gpu_worker.done(f"{MODULE}:answer", {"n": 4})["n"] == 4
    assert "no attribute" in gpu_worker.done(f"{MODULE}:nothing", {})["failed"]
