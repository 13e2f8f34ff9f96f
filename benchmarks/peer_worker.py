"""A process of its own for a tool: what crashes or hangs there costs one case."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

STARTING_S = 180.0
_SPAWN = multiprocessing.get_context("spawn")


def serve(tool: str, pipe: Connection) -> None:
    """Judge the cases whose names come through a pipe, silently, on one thread."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 1)
    os.dup2(nowhere, 2)
    import torch

    from benchmarks.peer_judge import judged
    from benchmarks.peer_tools import TOOLS
    from tests.conformance.collection import CASES

    torch.set_num_threads(1)
    cases = {case.name: case for case in CASES}
    pipe.send(None)
    while True:
        try:
            pipe.send(judged(TOOLS[tool], cases[pipe.recv()]))
        except Exception:
            pipe.send({"failed": traceback.format_exc()})


class Worker:
    """Judges cases in a process that is started again when it dies.

    Attributes:
        tool: Which tool the cases are put to.
        timeout: How many seconds a case may take.
    """

    def __init__(self, tool: str, timeout: float) -> None:
        self.tool, self.timeout = tool, timeout
        self._process: Any = None
        self._pipe: Any = None

    def judged(self, case: str) -> dict[str, Any]:
        """Return the outcome of a case; a crash and a hang are refusals."""
        try:
            if self._process is None:
                self._start()
            self._pipe.send(case)
            if self._pipe.poll(self.timeout):
                return self._answer(case)
        except (EOFError, ConnectionError):
            self._process.join()
            detail = f"crashed with exit code {self._process.exitcode}"
        else:
            detail = f"took more than {self.timeout:g} s"
        self.stop()
        return {"outcome": "refused", "detail": detail}

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
        self._process = None

    def _answer(self, case: str) -> dict[str, Any]:
        answer = dict(self._pipe.recv())
        if "failed" in answer:
            self.stop()
            raise RuntimeError(f"{case} cannot be judged: {answer['failed']}")
        return answer

    def _start(self) -> None:
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=serve, args=(self.tool, theirs), daemon=True)
        self._process.start()
        theirs.close()
        if not self._pipe.poll(STARTING_S):
            raise TimeoutError(f"the process for {self.tool} does not start")
        self._pipe.recv()
