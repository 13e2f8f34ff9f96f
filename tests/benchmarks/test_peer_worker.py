"""A process for each tool: what dies or hangs there is a refusal, and the next case runs."""

from __future__ import annotations

import pytest

from benchmarks.peer_worker import Worker


def test_a_crash_and_a_hang_cost_one_case() -> None:
    worker = Worker("fx", timeout=60.0)
    try:
        assert worker.judged("table-conv2d-norm")["outcome"] == "folded"
        worker._process.kill()
        told = worker.judged("table-conv2d-norm")
        assert told == {"outcome": "refused", "detail": "crashed with exit code -9"}
        worker.timeout = 0.0
        told = worker.judged("table-conv2d-norm")
        assert told == {"outcome": "refused", "detail": "took more than 0 s"}
        worker.timeout = 60.0
        with pytest.raises(RuntimeError, match="KeyError: 'no such case'"):
            worker.judged("no such case")
    finally:
        worker.stop()
