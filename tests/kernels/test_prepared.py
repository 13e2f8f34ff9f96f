"""Prepared computations: memory of their own for each run, one weight for many shapes."""

from __future__ import annotations

import threading
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnfuse.kernels import Epilogue, prepared, preparing
from bnfuse.kernels.library import UnsupportedError
from bnfuse.kernels.onednn_calls import Geometry
from bnfuse.kernels.prepared import Layout, Prepared, Problem, Weights
from tests.kernels.support import LIBRARY, drawn, error, needs_library

pytestmark = needs_library
ONE = Geometry((1, 1), (1, 1), (1, 1), 1)
WEIGHT, BIAS = drawn(16, 16, 3, 3), drawn(16)


def last(*shape: int) -> Layout:
    return Layout.of(torch.empty(shape, memory_format=torch.channels_last))


def convolution(weights: Weights, size: int = 12, weight: Tensor = WEIGHT) -> Prepared:
    assert LIBRARY is not None
    shape = last(1, len(weight), size, size)
    source = last(1, weight.shape[1], size, size)
    return preparing.convolution(
        LIBRARY, Problem(source, shape, weight, has_bias=True, epilogue=Epilogue()), ONE, weights
    )


def run(made: Prepared, x: Tensor) -> Tensor:
    x = x.contiguous(memory_format=torch.channels_last)
    y = torch.full_like(x, torch.nan)
    made(x.data_ptr(), y.data_ptr(), BIAS.data_ptr(), None)
    return y


def wanted(x: Tensor) -> Tensor:
    return nn.functional.conv2d(x, WEIGHT, BIAS, padding=1)


def test_runs_on_any_memory() -> None:
    made = convolution(Weights())
    for seed in range(3):
        x = drawn(1, 16, 12, 12, seed=seed)
        assert error(run(made, x), wanted(x)) < 1e-6


def test_shapes_share_the_weight() -> None:
    weights = Weights()
    assert not weights
    made = [convolution(weights, size) for size in (12, 14, 12)]
    assert len(weights) == 1
    x = drawn(1, 16, 14, 14)
    assert error(run(made[1], x), wanted(x)) < 1e-6


def test_threads_share_a_computation() -> None:
    made = convolution(Weights(), 40)
    inputs = [drawn(1, 16, 40, 40, seed=seed) for seed in range(4)]
    results = [wanted(x) for x in inputs]
    errors: list[float] = []
    start = threading.Barrier(len(inputs))

    def work(index: int) -> None:
        start.wait()
        errors.extend(error(run(made, inputs[index]), results[index]) for _ in range(50))

    threads = [threading.Thread(target=work, args=(index,)) for index in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(errors) == 200
    assert max(errors) < 1e-6
    assert 1 <= len(made._idle) <= len(inputs)


def test_scratch_memory_grows_and_is_of_one_thread() -> None:
    scratch = prepared._Scratch()
    first = scratch.bytes(64)
    assert scratch.bytes(32) is first
    assert scratch.bytes(1 << 20) is scratch.memory
    assert scratch.memory is not None
    assert scratch.memory.numel() == 1 << 20
    seen: list[Any] = []
    thread = threading.Thread(target=lambda: seen.append(scratch.memory))
    thread.start()
    thread.join()
    assert seen == [None]


def test_slow_kernels_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    assert LIBRARY is not None
    for name in ("ref:any", "x64:gemm:jit", "simple:any"):
        monkeypatch.setattr(LIBRARY, "kernel", lambda _, name=name: name)
        with pytest.raises(UnsupportedError, match=f"only {name}"):
            convolution(Weights())


def test_a_failure_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    made, x = convolution(Weights()), drawn(1, 16, 12, 12)
    monkeypatch.setattr(LIBRARY, "execute", lambda *_: 5)
    with pytest.raises(RuntimeError, match="oneDNN returned 5 for "):
        run(made, x)
