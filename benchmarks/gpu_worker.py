"""A process of its own that does the tasks: what crashes, hangs or breaks the GPU costs one task.

After an illegal access or a failed launch every further CUDA call of a process fails, so one that
cannot wait for its GPU any more is replaced.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from multiprocessing.connection import Connection

    from benchmarks.gpu_plan import Task

_SPAWN = multiprocessing.get_context("spawn")
STARTING_S = 120.0


def serve(pipe: Connection, log: str, cudnn_benchmark: bool) -> None:
    """Do the tasks that come through a pipe; what they print goes into a file."""
    handle = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(handle, 1)
    os.dup2(handle, 2)
    import torch

    torch.backends.cudnn.benchmark = cudnn_benchmark
    pipe.send(None)
    with torch.no_grad():
        while True:
            try:
                function, arguments = pipe.recv()
            except EOFError:
                return
            pipe.send((done(function, arguments), is_gpu_alive()))


def done(function: str, arguments: dict[str, Any]) -> dict[str, Any]:
    """Return what a function, ``module:name``, returns, or what it raised under ``failed``."""
    from benchmarks.gpu_guard import free, guarded

    module, _, name = function.partition(":")
    found = guarded(lambda: dict(getattr(importlib.import_module(module), name)(**arguments)))
    free()
    return found


def is_gpu_alive() -> bool:
    """Whether this process can go on using its GPU, if there is one."""
    import torch

    try:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


class Worker:
    """Does tasks in a process that is started again when it dies.

    Attributes:
        cudnn_benchmark: Whether cuDNN is to try its engines where it would else guess.
    """

    def __init__(self, cudnn_benchmark: bool = False) -> None:
        self.cudnn_benchmark = cudnn_benchmark
        self._process: Any = None
        self._pipe: Any = None
        self._log = Path()

    def run(self, task: Task, seconds: float) -> dict[str, Any] | None:
        """Return the outcome of a task, or None where the time ends before it is known.

        Args:
            task: What to do. One that takes longer than it may has failed.
            seconds: How much time there is.
        """
        end = time.monotonic() + seconds
        try:
            if self._process is None and not self._start(seconds):
                return None
            self._pipe.send((task.function, task.arguments))
            left = end - time.monotonic()
            if self._pipe.poll(max(0.0, min(left, task.limit_s))):
                found, is_alive = self._pipe.recv()
                if not is_alive:
                    self.stop()
                return dict(found)
        except (EOFError, ConnectionError):
            self._process.join()
            failed = f"crashed with exit code {self._process.exitcode}: {self._last_words()}"
        else:
            failed = f"took more than {task.limit_s:g} s" if task.limit_s <= left else ""
        self.stop()
        return {"failed": failed} if failed else None

    def stop(self) -> None:
        """End the process."""
        if self._process is not None:
            self._process.kill()
            self._process.join()
            self._pipe.close()
            self._log.unlink()
        self._process = None

    def _last_words(self) -> str:
        return " ".join(self._log.read_text(errors="replace").split())[-300:]

    def _start(self, seconds: float) -> bool:
        """Start the process, and return whether it is ready in time."""
        handle, name = tempfile.mkstemp(".log")
        os.close(handle)
        self._log = Path(name)
        self._pipe, theirs = _SPAWN.Pipe()
        arguments = (theirs, str(self._log), self.cudnn_benchmark)
        self._process = _SPAWN.Process(target=serve, args=arguments)
        self._process.start()
        theirs.close()
        if self._pipe.poll(min(seconds, STARTING_S)):
            self._pipe.recv()
            return True
        self.stop()
        return False
