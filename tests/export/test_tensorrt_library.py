"""Which package builds engines, for which GPUs, and what is said where none can."""

from __future__ import annotations

import sys
from enum import Enum
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from bnfuse.errors import ExportError, MissingDependencyError, RequestError
from bnfuse.export.tensorrt_library import Library, find_library, new_builder, new_log


class ComputeCapability(Enum):
    """The names that the package has."""

    NONE = 0
    CURRENT = 1
    SM75 = 75
    SM86 = 86
    SM120 = 120


class ILogger:
    """The base of loggers, as far as it is used."""


class Severity(Enum):
    """How bad a message is."""

    ERROR = 1
    INFO = 3


def stand_in(name: str, **more: Any) -> Library:
    """Return a package that has no more than the names that are used."""
    known = {"__version__": "11.0.1", "ComputeCapability": ComputeCapability, "ILogger": ILogger}
    return Library(name, SimpleNamespace(**{**known, **more}))


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there is a GPU."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))


@pytest.fixture
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Pretend that there is none."""
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)


def both_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, stand_in(name).module)


def test_with_a_gpu_the_full_library_comes_first(
    monkeypatch: pytest.MonkeyPatch, gpu: None
) -> None:
    both_installed(monkeypatch)
    assert find_library().described == "tensorrt 11.0.1"


def test_without_a_gpu_the_one_that_needs_none_comes_first(
    monkeypatch: pytest.MonkeyPatch, no_gpu: None
) -> None:
    both_installed(monkeypatch)
    assert find_library().name == "tensorrt_rtx"
    assert find_library("tensorrt").name == "tensorrt"


def test_what_is_installed_is_taken(monkeypatch: pytest.MonkeyPatch, no_gpu: None) -> None:
    both_installed(monkeypatch)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    assert find_library().name == "tensorrt"


def test_nothing_installed(monkeypatch: pytest.MonkeyPatch, no_gpu: None) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(MissingDependencyError) as caught:
        find_library()
    assert str(caught.value) == (
        "tensorrt_rtx or tensorrt is needed for TensorRT engines and does not import "
        "(tensorrt_rtx: import of tensorrt_rtx halted; None in sys.modules; "
        "tensorrt: import of tensorrt halted; None in sys.modules): "
        "pip install 'bnfuse[tensorrt-rtx]', or 'bnfuse[tensorrt]' on a machine with an NVIDIA GPU."
    )


def test_library_that_breaks_on_import(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    (tmp_path / "tensorrt.py").write_text("raise RuntimeError('Found no NVIDIA driver\\n...')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "tensorrt", raising=False)
    with pytest.raises(MissingDependencyError, match=r"\(tensorrt: Found no NVIDIA driver\): pip"):
        find_library("tensorrt")


def test_targets(gpu: None) -> None:
    rtx, full = stand_in("tensorrt_rtx"), stand_in("tensorrt")
    assert rtx.targets() == ("7.5", "8.6", "12.0")
    assert rtx.chosen(None) == ("8.6", "12.0")  # Turing only if it is asked for
    assert rtx.chosen([(8, 6), "12.0", "8.6"]) == ("8.6", "12.0")
    assert rtx.chosen(("7.5",)) == ("7.5",)
    assert full.chosen(None) == full.chosen(("9.0",)) == ("9.0",)


@pytest.mark.parametrize(
    ("asked", "wanted"),
    [
        (
            ("9.0",),
            (
                "tensorrt_rtx 11.0.1 does not build for compute capability 9.0: it does for 7.5, "
                "8.6, 12.0."
            ),
        ),
        (("sm86",), "compute_capabilities names 'sm86': write it like '8.6' or (8, 6)."),
        ((86,), "compute_capabilities names 86: write it like '8.6' or (8, 6)."),
        ("8.6", "compute_capabilities is '8.6': pass a sequence such as ('8.6', '8.9')."),
        ((), "compute_capabilities is (): pass a sequence such as ('8.6', '8.9')."),
    ],
)
def test_targets_that_cannot_be(asked: Any, wanted: str) -> None:
    with pytest.raises(RequestError) as caught:
        stand_in("tensorrt_rtx").chosen(asked)
    assert str(caught.value) == wanted


def test_full_library_without_a_gpu_builds_for_none(no_gpu: None) -> None:
    assert stand_in("tensorrt").chosen(None) == ()
    with pytest.raises(RequestError, match="it does for the GPU of a machine that has one"):
        stand_in("tensorrt").chosen(("8.6",))


def test_log_keeps_errors() -> None:
    log = new_log(stand_in("tensorrt"))
    assert log.first() == "it does not say why"
    log.log(Severity.INFO, "reading")
    log.log(Severity.ERROR, " no such layer\nin line 3")
    log.log(Severity.ERROR, "giving up")
    assert log.errors == ["no such layer\nin line 3", "giving up"]
    assert log.first() == "no such layer"


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt_rtx"])
def test_builder_that_does_not_start(name: str) -> None:
    def no_driver(log: Any) -> None:
        log.log(Severity.ERROR, "CUDA initialization failure with error: 35")
        raise TypeError("factory function returned nullptr")

    library = stand_in(name, Builder=no_driver)
    remedy = "NVIDIA GPU and its driver" if name == "tensorrt" else "constraints.txt"
    with pytest.raises(ExportError, match=rf"{name} 11.0.1 cannot start \(CUDA .* 35\).*{remedy}"):
        new_builder(library, new_log(library))
