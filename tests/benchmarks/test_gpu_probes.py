"""The probes of fused convolutions, with what of them runs on a CPU."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from benchmarks import gpu_probes
from benchmarks.gpu_conv import epilogue, exact, operands, pointwise, separate
from benchmarks.gpu_guard import cudnn_tf32, deviation, guarded
from benchmarks.gpu_plan import ConvShape
from benchmarks.gpu_probes import aliased, conv, poisoned, schemas, stem

SMALL = {
    "conv1": ConvShape(3, 8, 7, 2, 16),
    "sum": ConvShape(8, 16, 1, 1, 8, residual=True),
}
LIMITS = {"float32": 1e-5, "float16": 4e-3}


@pytest.fixture(autouse=True)
def small_shapes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Use small shapes, and no compiler."""
    monkeypatch.setattr(gpu_probes, "SHAPES", SMALL)
    monkeypatch.setattr(gpu_probes, "one_kernel", lambda: epilogue)


def no_time(call: object) -> float:
    return 5.0


@pytest.mark.parametrize("shape", SMALL)
@pytest.mark.parametrize("dtype", LIMITS)
def test_the_ways_agree_with_float64(shape: str, dtype: str) -> None:
    found = conv(shape, dtype, tf32=False, batch=2, device="cpu", timer=no_time)["candidates"]
    for way in ("separate", "one kernel"):
        assert 0 <= found[way]["error"] < LIMITS[dtype]
        assert found[way]["us"] == 5.0


def test_what_cannot_run_is_told_and_the_rest_is_kept() -> None:
    def no_timer(call: object) -> float:
        raise RuntimeError("no\n clock")

    found = conv("sum", "float32", tf32=True, batch=2, device="cpu", timer=no_timer)["candidates"]
    assert found["separate"]["failed"] == "RuntimeError: no clock"
    assert found["separate"]["error"] < 1e-5
    assert set(found["cudnn"]) == {"failed"}


def test_the_reference_is_that_of_the_first_images() -> None:
    o = operands(SMALL["sum"], "float32", 3, "cpu")
    assert o.z is not None
    y = F.conv2d(o.x.double(), o.weight.double(), o.bias.double()) + o.z.double()
    assert torch.allclose(exact(o, 2), y.clamp(min=0)[:2])
    assert deviation(separate(o), y.clamp(min=0)) < 1e-5
    assert deviation(separate(o) + 1, y.clamp(min=0)) > 1e-2


def test_operands_are_laid_out_as_asked_and_about_as_large_as_their_results() -> None:
    o = operands(SMALL["conv1"], "float16", 2, "cpu")
    assert o.x.is_contiguous(memory_format=torch.channels_last)
    assert o.weight.is_contiguous(memory_format=torch.channels_last)
    assert o.window == ([2, 2], [3, 3], [1, 1], 1)
    assert 0.5 < float(exact(o, 2).std()) < 2
    turned = operands(SMALL["conv1"], "float16", 2, "cpu", torch.contiguous_format)
    assert turned.x.is_contiguous()


def test_the_one_kernel_gets_a_matrix_without_a_copy() -> None:
    o = operands(SMALL["sum"], "float32", 2, "cpu")
    seen: list[Tensor] = []

    def noting(y: Tensor, bias: Tensor, z: Tensor | None) -> Tensor:
        seen.append(y)
        return epilogue(y, bias, z)

    got = pointwise(o, noting)
    assert seen[0].shape == (2 * 8 * 8, 16)
    assert seen[0].is_contiguous()
    assert got.shape == (2, 16, 8, 8)


def test_both_layouts_of_the_stem_are_compared() -> None:
    found = stem("float32", 1, device="cpu", timer=no_time)["candidates"]
    assert list(found) == ["separate NCHW", "cudnn NCHW", "separate NHWC", "cudnn NHWC"]
    assert found["separate NCHW"]["error"] < 1e-5
    assert found["separate NHWC"]["error"] < 1e-5


def test_a_sum_with_the_input_is_compared_with_one_with_its_copy(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert list(aliased("float32", 3, device="cpu")["candidates"]) == ["input", "copy"]
    monkeypatch.setattr(gpu_probes, "fused", separate)
    monkeypatch.setattr(gpu_probes, "SHAPES", {})
    found = aliased("float32", 3, device="cpu")["candidates"]
    assert found["input"]["error"] < 1e-5
    assert found["copy"]["error"] < 1e-5


def test_a_result_with_nan_is_noticed() -> None:
    values = iter([1.0, 1.0, torch.nan, 1.0, 1.0, 1.0])
    found = poisoned(lambda: torch.full((2, 3), next(values)))
    assert found["nan"] == 6
    assert found["equal"] is False


def test_a_result_that_changes_is_noticed() -> None:
    values = iter([1.0, 1.0, 1.0, 2.0, 1.0, 1.0])
    found = poisoned(lambda: torch.full((2, 3), next(values)))
    assert (found["nan"], found["equal"]) == (0, False)


def test_a_result_that_stays_is_equal(monkeypatch: pytest.MonkeyPatch) -> None:
    x = torch.ones(2, 3)
    assert poisoned(lambda: x + 1) | {"reached": None} == {
        "reached": None,
        "nan": 0,
        "equal": True,
    }
    monkeypatch.setattr(torch, "empty_like", lambda like: torch.full_like(like, torch.nan))
    assert poisoned(lambda: x + 1)["reached"] is True


def test_the_fused_operations_are_declared_as_they_are_called() -> None:
    found = schemas()["candidates"]
    window = "SymInt[] stride, SymInt[] padding, SymInt[] dilation, SymInt groups) -> Tensor"
    for name, operand in (("relu", ""), ("add_relu", "Tensor z, Scalar? alpha, ")):
        wanted = f"(Tensor self, Tensor weight, {operand}Tensor? bias, {window}"
        assert found[f"cudnn_convolution_{name}"]["schema"].endswith(wanted)


def test_a_failure_is_told_in_a_line() -> None:
    def failing(n: int) -> dict[str, int]:
        raise ValueError("a\n  b" + "c" * 999)

    assert guarded(lambda: {"a": 1}) == {"a": 1}
    told = guarded(failing, n=3)["failed"]
    assert told.startswith("ValueError: a bccc")
    assert len(told) == 300


def test_tf32_is_put_back() -> None:
    before = torch.backends.cudnn.allow_tf32
    with cudnn_tf32(not before):
        assert torch.backends.cudnn.allow_tf32 is not before
    assert torch.backends.cudnn.allow_tf32 is before
