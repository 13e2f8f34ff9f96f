"""The private operators are looked at before they are used."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch

from bnfuse.kernels import onednn_calls, probe
from tests.kernels.support import conv, drawn, fused, has_packed

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _looks_anew() -> Iterator[None]:
    probe.onednn.cache_clear()
    yield
    probe.onednn.cache_clear()


def test_they_work_here() -> None:
    found = probe.onednn()
    assert torch.float32 in found.dtypes
    assert found.note == ""
    assert (torch.bfloat16 in found.dtypes) == torch.ops.mkldnn._is_mkldnn_bf16_supported()


def test_changed_arguments(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(probe.SCHEMAS, ("_linear_pointwise", "default"), "Tensor X")
    monkeypatch.setitem(probe.SCHEMAS, ("_gone", "default"), "Tensor X")
    found = probe.onednn()
    assert found.dtypes == frozenset()
    assert (
        found.note == f"torch {torch.__version__} changed _linear_pointwise.default, _gone.default"
    )
    made, x = fused(conv()), drawn(1, 8, 30, 30)
    assert torch.equal(made(x), conv()(x))
    assert not has_packed(made)


def test_wrong_results(monkeypatch: pytest.MonkeyPatch) -> None:
    right = onednn_calls.linear
    monkeypatch.setattr(onednn_calls, "linear", lambda *args: right(*args) + 1)
    found = probe.onednn()
    assert found.dtypes == frozenset()
    assert "torch.float32: its kernels are off by 1.0e+00" in found.note


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(*_: object) -> None:
        raise RuntimeError

    monkeypatch.setattr(onednn_calls, "linear", raises)
    assert "its kernels raise RuntimeError" in probe.onednn().note


def test_build_without_onednn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_has_mkldnn", False)
    assert probe.onednn().note == "this build of torch has no oneDNN"
