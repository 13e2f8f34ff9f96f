"""The benchmark of GPUs, as far as it can be tested without one."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
import torch
import typer

from benchmarks import gpu, gpu_machine, storage
from benchmarks.gpu import chosen, measure, missing
from benchmarks.gpu_machine import ASKED, told_by_driver
from benchmarks.gpu_plan import Task, plan

MACHINE = {"gpu": "H", "torch": "2.14", "cudnn_benchmark": False}
NOTHING: dict[str, Any] = {}


class Clock:
    """Time that passes when a task is done."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "monotonic", lambda: self.now)

    def run(self, task: Task, seconds: float) -> dict[str, Any] | None:
        """Take as long as the task says, but no longer than there is time."""
        taken = task.arguments["takes"]
        self.now += min(taken, seconds)
        return NOTHING if taken <= seconds else None


def task(name: str, takes: float = 1.0, expected_s: float = 1.0) -> Task:
    return Task("probes", f"m:{name}", {"takes": takes}, expected_s)


def measured(tasks: list[Task], clock: Clock, seconds: float) -> tuple[list[str], list[str]]:
    """Return what was done and what is left."""
    done: list[str] = []
    left = measure(tasks, clock.run, lambda one, _: done.append(one.function), seconds)
    return done, [one.function for one in left]


def test_tasks_are_done_in_order(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [task("a"), task("b")]
    assert measured(tasks, Clock(monkeypatch), 10) == (["m:a", "m:b"], [])


def test_a_task_that_does_not_fit_is_left_for_one_that_does(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    tasks = [task("a", 5), task("long", expected_s=6), task("b")]
    assert measured(tasks, Clock(monkeypatch), 10) == (["m:a", "m:b"], ["m:long"])


def test_the_first_task_is_begun_even_if_it_may_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    tasks = [task("a", takes=9, expected_s=20), task("b", expected_s=2)]
    assert measured(tasks, Clock(monkeypatch), 10) == (["m:a"], ["m:b"])


def test_a_task_that_does_not_end_in_time_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock(monkeypatch)
    assert measured([task("a"), task("b", takes=99), task("c")], clock, 10) == (
        ["m:a"],
        ["m:b", "m:c"],
    )
    assert clock.now == 10


def test_what_the_same_kind_of_machine_has_measured_is_not_missing() -> None:
    tasks = [task("a"), task("b")]
    rows = [{"task": tasks[0].name, "machine": MACHINE}]
    assert missing(tasks, rows, MACHINE) == tasks[1:]
    assert missing(tasks, rows, MACHINE | {"gpu": "A"}) == tasks


def test_a_part_can_be_chosen() -> None:
    assert chosen(None) == plan()
    parts = [chosen(kind) for kind in gpu.KINDS]
    assert all(parts)
    assert sum(map(len, parts)) == len(plan())
    with pytest.raises(typer.BadParameter, match="there is no part 'all': write one of verify"):
        chosen("all")


class Done:
    """A worker that fails every second task, and keeps what it was asked."""

    def __init__(self, cudnn_benchmark: bool) -> None:
        self.asked = 0

    def run(self, task: Task, seconds: float) -> dict[str, Any] | None:
        self.asked += 1
        return {"failed": "OutOfMemoryError: too much"} if self.asked % 2 else {"candidates": {}}

    def stop(self) -> None:
        """There is nothing to stop."""


@pytest.fixture
def results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Let there be a GPU, and three tasks whose results go to a file of their own."""
    path = tmp_path / "gpu.json"
    monkeypatch.setattr(gpu, "RESULTS", path)
    monkeypatch.setattr(gpu, "Worker", Done)
    monkeypatch.setattr(gpu_machine, "facts", lambda: {"driver": "1"})
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "H")
    tasks = [Task("probes", "m:stem", {"dtype": "float16", "batch": n}) for n in (1, 2, 3)]
    monkeypatch.setattr(gpu, "plan", lambda: tasks)
    return path


def run(**options: Any) -> None:
    asked: dict[str, Any] = {"seconds": 99, "only": None, "again": False, "cudnn_benchmark": False}
    gpu.main(**asked | options)


def test_a_failure_is_a_row_and_a_second_run_goes_on(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run(seconds=gpu.CLOSING_S - 1)
    assert not results.exists()
    assert "3 of 3 measurements are left" in capsys.readouterr().out
    run()
    made = json.loads(results.read_text())
    assert made["environment"]["driver"] == "1"
    assert made["environment"]["gpu"] == "H"
    assert [row.get("failed") for row in made["rows"]] == [
        "OutOfMemoryError: too much",
        None,
        "OutOfMemoryError: too much",
    ]
    assert "OutOfMemoryError: too much" in capsys.readouterr().out
    run()
    assert json.loads(results.read_text())["rows"] == made["rows"]


def test_again_forgets_what_this_machine_measured(results: Path) -> None:
    run()
    run(cudnn_benchmark=True)
    before = json.loads(results.read_text())["rows"]
    assert len(before) == 6
    run(again=True)
    after = json.loads(results.read_text())["rows"]
    assert after == before[3:] + before[:3]


def test_a_machine_without_a_gpu_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(typer.BadParameter, match="there is no CUDA device here"):
        run()


def test_what_is_known_is_shown_without_a_gpu(
    results: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    head = {"task": "verified levit", "model": "levit", "dtype": "float16", "failed": "nothing"}
    row = {"kind": "verify", "measured": "verified", **head}
    machines = [
        {"gpu": name, "torch": "2.11.0", "cudnn_benchmark": name == "second"}
        for name in ("first", "second")
    ]
    results.write_text(json.dumps({"rows": [{**row, "machine": one} for one in machines]}))
    gpu.main(show=True)
    shown = capsys.readouterr().out
    assert shown.count("nothing") == 2
    assert " first, torch 2.11.0 " in shown
    assert " second, torch 2.11.0, cuDNN tries its engines " in shown


def test_a_machine_without_git_can_save(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "rows.json"
    storage.save(path, [])
    assert len(json.loads(path.read_text())["commit"]) in (7, 40)
    monkeypatch.setenv("PATH", str(tmp_path))
    storage.save(path, [{"a": 1}], {"driver": "1"})
    made = json.loads(path.read_text())
    assert (made["commit"], made["environment"]["driver"]) == ("unknown", "1")
    assert storage.load(path) == [{"a": 1}]


def test_nvidia_smi_is_asked_once_and_need_not_be_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    tool = tmp_path / "nvidia-smi"
    tool.write_text(f"#!/bin/sh\necho '{', '.join(str(n) for n in range(len(ASKED)))}'\n")
    tool.chmod(0o755)
    assert told_by_driver() == {name: str(n) for n, name in enumerate(ASKED)}
    tool.write_text("#!/bin/sh\necho one, two\n")
    assert told_by_driver() == {}
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert told_by_driver() == {}
    monkeypatch.setenv("PATH", str(tmp_path / "nothing"))
    assert told_by_driver() == {}
