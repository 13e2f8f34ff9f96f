"""cuDNN's fused convolutions are looked at before they are used; stand-ins answer for a GPU."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.kernels import cudnn_calls

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from bnfuse.kernels.onednn_calls import Geometry


def relu(x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry) -> Tensor:
    return F.conv2d(x, weight, bias, g.stride, g.padding, g.dilation, g.groups).relu_()


def add_relu(x: Tensor, weight: Tensor, bias: Tensor | None, g: Geometry, z: Tensor) -> Tensor:
    return F.conv2d(x, weight, bias, g.stride, g.padding, g.dilation, g.groups).add_(z).relu_()


@pytest.fixture(autouse=True)
def _stand_in(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(cudnn_calls, "relu", relu)
    monkeypatch.setattr(cudnn_calls, "add_relu", add_relu)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch, "device", lambda *_: "cpu")
    cudnn_calls._looked_at.cache_clear()
    yield
    cudnn_calls._looked_at.cache_clear()


def test_they_work() -> None:
    assert cudnn_calls.cudnn(0).dtypes == {torch.float16, torch.bfloat16, torch.float32}
    assert cudnn_calls.cudnn(0).note == ""


def test_nothing_is_looked_at_while_a_graph_is_captured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert cudnn_calls.cudnn(0) is cudnn_calls.NOT_NOW
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    assert cudnn_calls.cudnn(0).dtypes


def test_changed_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(cudnn_calls.SCHEMAS, "cudnn_convolution_relu", "Tensor X")
    monkeypatch.setitem(cudnn_calls.SCHEMAS, "cudnn_gone", "Tensor X")
    found = cudnn_calls.cudnn(0)
    assert found.dtypes == frozenset()
    assert found.note == f"torch {torch.__version__} changed cudnn_convolution_relu, cudnn_gone"


def test_wrong_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cudnn_calls, "add_relu", lambda *args: add_relu(*args) + 1)
    found = cudnn_calls.cudnn(0)
    assert found.dtypes == frozenset()
    assert "torch.float32: its kernels are off by 1.0e+00" in found.note


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*args: Tensor) -> Tensor:
        if args[0].dtype is torch.float32:
            raise RuntimeError
        return relu(*args)  # type: ignore[arg-type]  # the last is the geometry

    monkeypatch.setattr(cudnn_calls, "relu", raises)
    found = cudnn_calls.cudnn(0)
    assert found.dtypes == {torch.float16, torch.bfloat16}
    assert found.note == "torch.float32: its kernels raise RuntimeError"


def test_memory_that_is_full_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(*_: object) -> Tensor:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(cudnn_calls, "relu", is_full)
    with pytest.raises(torch.OutOfMemoryError):
        cudnn_calls.cudnn(0)


def test_rocm(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert cudnn_calls.cudnn(0).note == "this build of torch is for ROCm"
