"""Kernels are compared before they are used; Triton's interpreter stands for a GPU."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bnfuse.kernels import Activation, triton_launch, triton_probe
from bnfuse.kernels.triton_launch import Compiled, Variant
from tests.kernels.interpreted import CPU, interpreter, stand_in

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["interpreter", "stand_in"]
pytestmark = [
    pytest.mark.usefixtures("stand_in"),
    pytest.mark.filterwarnings("ignore::RuntimeWarning:triton"),
]
SILU = Activation("silu")


def variant(dtype: torch.dtype = torch.float32, **facts: Any) -> Variant:
    width = 16 // dtype.itemsize
    return Variant(CPU, dtype, SILU, "add", True, False, width)._replace(**facts)


@pytest.mark.parametrize("is_last", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_right_kernels_are_used(dtype: torch.dtype, is_last: bool) -> None:
    key = variant(dtype, is_last=is_last)
    assert not triton_probe.is_known(key)
    found = triton_probe.usable(key)
    assert found is not None
    assert triton_probe.is_known(key)
    assert triton_probe.usable(key) is found


def test_a_launcher_that_fails_is_not_used() -> None:
    found = triton_probe.usable(variant())
    assert found is not None
    assert not found.is_direct
    _, note = triton_probe._looked_at(variant())
    assert note == "triton's launchers raise AttributeError"


def test_a_launcher_that_is_right_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiled, "directly", Compiled.by_triton)
    found = triton_probe.usable(variant())
    assert found is not None
    assert found.is_direct
    assert triton_probe._looked_at(variant())[1] == ""


def test_a_launcher_that_does_nothing_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Compiled, "directly", lambda *_: lambda *_: None)
    found = triton_probe.usable(variant())
    assert found is not None
    assert not found.is_direct
    assert "triton's launchers are off" in triton_probe._looked_at(variant())[1]


def other_formula(activation: Activation) -> Callable[[Variant], Compiled]:
    """Return what compiles kernels with the formula of another activation."""
    from bnfuse.kernels.triton_activations import formula

    right = triton_launch.compiled

    def made(key: Variant) -> Compiled:
        found = right(key)
        return replace(found, constants=(formula(activation), *found.constants[1:]))

    return made


@pytest.mark.parametrize(
    ("activation", "note"),
    [(Activation("hardswish"), "its kernels are off where a NaN is"), (Activation("relu"), "")],
    ids=str,
)
def test_wrong_results(activation: Activation, note: str, monkeypatch: pytest.MonkeyPatch) -> None:
    key = variant(activation=Activation("sigmoid"), binary="")
    monkeypatch.setattr(triton_probe, "compiled", other_formula(activation))
    assert triton_probe.usable(key) is None
    assert triton_probe._looked_at(key)[1].startswith(note or "its kernels are off by")


def test_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    def raises(_: Variant) -> Compiled:
        raise SystemError

    monkeypatch.setattr(triton_probe, "compiled", raises)
    assert triton_probe.usable(variant()) is None
    assert triton_probe._looked_at(variant())[1] == "triton raises SystemError"


def test_memory_that_is_full_is_no_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    def is_full(_: Variant) -> Compiled:
        raise torch.OutOfMemoryError

    monkeypatch.setattr(triton_probe, "compiled", is_full)
    with pytest.raises(torch.OutOfMemoryError):
        triton_probe.usable(variant())
    assert not triton_probe.is_known(variant())


def test_what_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    def told() -> str:
        triton_probe.lacks.cache_clear()
        return triton_probe.lacks(CPU)

    assert told() == ""
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (7, 5))
    assert triton_probe.usable(variant(torch.bfloat16)) is None
    assert triton_probe._looked_at(variant(torch.bfloat16))[1] == "the GPU has no torch.bfloat16"
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (6, 1))
    assert told() == "triton needs compute capability 7.0"
    assert triton_probe.usable(variant()) is None
    monkeypatch.setenv("TRITON_INTERPRET", "1")
    assert told() == "triton interprets, as TRITON_INTERPRET asks for"
    monkeypatch.setattr(triton_probe, "find_spec", lambda _: None)
    assert told() == "triton is not installed"
    monkeypatch.setattr(torch.version, "hip", "7.0")
    assert told() == "this build of torch is for ROCm"


def test_a_look_at_all_dtypes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device", lambda _: torch.no_grad())
    found = triton_probe.triton(CPU)
    assert found.dtypes == {torch.float32, torch.float16, torch.bfloat16}
    assert found.note == "triton's launchers raise AttributeError"
