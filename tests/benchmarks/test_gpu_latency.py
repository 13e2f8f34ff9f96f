"""The latencies of the benchmark of GPUs: its models, its calls, its figures."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from functools import cache
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from benchmarks import gpu_checks, gpu_models
from benchmarks.gpu_latency import eager, measured
from benchmarks.gpu_models import calibrate, calls
from benchmarks.gpu_timing import flusher, summary, wall_ms
from bnfuse.zoo import LoadedModel, randomize_statistics


def growing(depth: int) -> nn.Sequential:
    """Return a network whose values grow with random statistics."""
    torch.manual_seed(0)
    layers: list[nn.Module] = []
    for _ in range(depth):
        conv = nn.Conv2d(4, 4, 3, padding=1)
        nn.init.normal_(conv.weight, std=2.0)
        layers += [conv, nn.BatchNorm2d(4), nn.ReLU()]
    model = nn.Sequential(*layers)
    randomize_statistics(model)
    return model.eval()


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> str:
    """Let every model be a small one."""
    model = growing(2)
    made = LoadedModel(model, (torch.randn(1, 4, 8, 8),), is_random=True)

    @cache
    def optimized(name: str, dtype: str) -> nn.Module:
        return bnfuse.optimize(model, dtype=getattr(torch, dtype))

    for module in (gpu_models, gpu_checks):
        monkeypatch.setattr(module, "loaded", lambda name: made)
        monkeypatch.setattr(module, "optimized", optimized)
    return "small"


@torch.no_grad()
def test_calibration_keeps_values_small_and_the_model_as_it_was() -> None:
    model, images = growing(12), torch.randn(8, 4, 16, 16)
    weight = model.get_parameter("0.weight").clone()
    assert float(model(images).abs().max()) > 1e6
    calibrate(model, images)
    assert float(model(images).abs().max()) < 100
    assert not any(module.training for module in model.modules())
    assert {m.momentum for m in model if isinstance(m, nn.BatchNorm2d)} == {0.1}
    assert torch.equal(model.get_parameter("0.weight"), weight)
    variances = [buffer for name, buffer in model.named_buffers() if name.endswith("var")]
    assert float(torch.stack(variances).min()) >= 0.01 - 1e-9


@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_a_model_is_verified_in_a_dtype(small: str, dtype: str) -> None:
    found = gpu_checks.verified(small, dtype, device="cpu")
    assert found["passed"]
    assert (found["gone"], found["batch_norms"], found["complaints"]) == (2, 2, [])
    assert found["error"] <= 4 * found["own_error"] + 16 * torch.finfo(getattr(torch, dtype)).eps


def test_a_wrong_model_is_told(small: str, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = bnfuse.optimize(growing(3))
    monkeypatch.setattr(gpu_checks, "optimized", lambda name, dtype: wrong)
    assert not gpu_checks.verified(small, "float32", device="cpu")["passed"]


@torch.no_grad()
def test_both_layouts_compute_the_same(small: str) -> None:
    made = calls(small, "float32", 3, "cpu")
    assert list(made) == ["eager", "eager channels_last", "bnfuse", "bnfuse channels_last"]
    outputs = [call() for call in made.values()]
    assert outputs[0].shape == (3, 4, 8, 8)
    for output in outputs[1:]:
        assert torch.allclose(output, outputs[0], rtol=1e-3, atol=1e-3)
    assert outputs[1].is_contiguous(memory_format=torch.channels_last)
    assert {call().dtype for call in calls(small, "bfloat16", 1, "cpu").values()} == {
        torch.bfloat16
    }


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_a_failed_capture_is_a_row(small: str) -> None:
    with torch.no_grad():
        found = eager(small, "float32", 1, device="cpu", seconds=0.0)["candidates"]
    plain = [name for name in found if not name.endswith("graph")]
    assert plain == ["eager", "eager channels_last", "bnfuse", "bnfuse channels_last"]
    assert found["eager"]["ratio"] == 1.0
    assert found["eager"]["calls"] == 50
    for name in plain:
        assert found[name]["difference"] < 1e-3
        assert set(found[f"{name} graph"]) == {"failed"}


def test_what_is_captured_is_timed_beside_the_rest() -> None:
    x = torch.ones(3)

    def doubled() -> Tensor:
        return 2 * x

    def capture() -> Callable[[], Any]:
        return lambda: x + 2

    def failing() -> Callable[[], Any]:
        raise RuntimeError("cannot be captured")

    made = {"eager": doubled, "other": doubled}
    found = measured(made, {"eager": capture, "other": failing}, 0.0)["candidates"]
    assert found["eager graph"]["difference"] == 0.5
    assert found["eager graph"]["ms"] > 0
    assert found["other graph"] == {"failed": "RuntimeError: cannot be captured"}


def test_a_summary_has_a_99th_percentile_from_a_thousand_on() -> None:
    times = [float(n) for n in range(1000)]
    told = summary(times)
    assert (told["n"], told["min"], told["p50"]) == (1000, 0.0, statistics.median(times))
    assert told["mean"] == 499.5
    assert told["p99"] == pytest.approx(989.01)
    assert "p99" not in summary(times[:999])


def test_the_clock_waits_before_and_after_and_drops_the_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[str] = []
    monkeypatch.setattr(torch.cuda, "synchronize", lambda: seen.append("wait"))
    times = wall_ms(lambda: seen.append("call"), 2)
    assert seen == ["wait", "call", "wait"] * 3
    assert len(times) == 2


def test_a_flush_writes_more_than_the_cache() -> None:
    flush = flusher(1000, device="cpu")
    assert flush().numel() == 2000
    assert int(flush().max()) == 0
