"""The ways to end a layer, with what of them runs in Triton's interpreter."""

from __future__ import annotations

from functools import cache

import pytest
import torch

from benchmarks import gpu_epilogue, gpu_plan
from benchmarks.gpu_epilogue import accuracy, blocks, ending, host_us, whole
from benchmarks.gpu_epilogue_ways import FORMULAS
from benchmarks.gpu_plan import ConvShape
from bnfuse.kernels import Activation, triton_launch, triton_probe
from bnfuse.kernels.activation import NAMES
from tests.kernels.interpreted import CPU, interpreter, stand_in

__all__ = ["interpreter", "stand_in"]
pytestmark = pytest.mark.filterwarnings("ignore::RuntimeWarning:triton")
SMALL = {
    "silu": (ConvShape(3, 8, 3, 2, 9), "silu"),
    "sum": (ConvShape(8, 4, 1, 1, 6, residual=True), ""),
}


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, stand_in: None) -> None:
    """Use small shapes, and count few calls."""
    monkeypatch.setattr(gpu_epilogue, "ENDED", SMALL)
    monkeypatch.setattr(gpu_epilogue, "CALLS", 2)
    monkeypatch.setattr(gpu_epilogue, "ROUNDS", 1)


def no_time(call: object) -> float:
    return 5.0


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("shape", SMALL)
def test_the_ways_agree_with_float64(shape: str, is_last: bool) -> None:
    found = ending(shape, "float32", 2, is_last, device="cpu", timer=no_time)["candidates"]
    for way in ("operators", "bnfuse", "triton call"):
        assert 0 <= found[way]["error"] < 1e-6
        assert found[way]["us"] == 5.0
        assert found[way]["host_us"] > 0
    assert found["no epilogue"]["error"] > 0.1
    assert {name for name, way in found.items() if "failed" in way} == {
        "compiled call",
        "launcher",
        "inductor",
        "jiterator",
    }


def test_whole_models_are_timed_with_and_without(monkeypatch: pytest.MonkeyPatch) -> None:
    def calls(*_: object) -> dict[str, object]:
        def told() -> torch.Tensor:
            return torch.tensor([1.0 + (not triton_probe.lacks(CPU))])

        first = cache(told)  # as layers do, it keeps what it chose
        return {"eager": told, "bnfuse": first, "bnfuse channels_last": first}

    monkeypatch.setattr(gpu_epilogue, "calls", calls)
    found = whole("small", "float32", 1, device="cpu", seconds=0.0)["candidates"]
    differences = {name: row["difference"] for name, row in found.items() if "ms" in row}
    assert differences == {
        "operators": 0.0,
        "operators channels_last": 0.0,
        "one kernel": 1.0,
        "one kernel channels_last": 1.0,
    }


def test_errors_of_all_activations() -> None:
    found = accuracy("float16", device="cpu", shape=(2, 8, 3, 4))["candidates"]
    assert {name.partition("(")[0] for name in found} == NAMES
    for one in found.values():
        assert 0 <= one["kernel"] <= one["operators"] < 1e-2
        assert one["direct"] is False
        assert one["notes"] == "triton's launchers raise AttributeError"


def test_other_sizes_of_programs_are_put_back() -> None:
    before = triton_launch.ELEMENTS
    found = blocks("silu", "float16", batch=1, device="cpu", timer=no_time)["candidates"]
    assert found["no epilogue"] == {"us": 5.0}
    assert len(found) == 1 + 4 * 2
    assert before == triton_launch.ELEMENTS


def test_the_activations_are_known() -> None:
    for _, name in gpu_plan.ENDED.values():
        assert name in FORMULAS
        assert not name or Activation(name).plain(torch.zeros(1)) is not None


def test_the_processors_time() -> None:
    calls = iter([torch.empty(0)] * 2)
    assert host_us(lambda: next(calls)) > 0
    assert next(calls, None) is None
