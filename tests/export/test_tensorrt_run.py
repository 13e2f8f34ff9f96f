"""Running engines: on a GPU where there is one, and elsewhere what is handed to the library."""

from __future__ import annotations

import ctypes
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
import bnfuse.export.tensorrt_run as running
from bnfuse.errors import ExportError, MissingDependencyError, RequestError
from bnfuse.export.tensorrt_build import Built, Port
from bnfuse.export.tensorrt_facts import beside, facts_of
from bnfuse.export.tensorrt_library import Library
from bnfuse.export.tensorrt_run import EngineSession

if TYPE_CHECKING:
    from pathlib import Path

INPUT = Port("x", "FLOAT", (-1, 3), (1, 3), (2, 3), (4, 3))
OUTPUT = Port("y", "FLOAT", (-1, 3))


class Context:
    """Copies the input to the output, at the addresses that it is told."""

    works = True

    def __init__(self) -> None:
        self.shape: tuple[int, ...] = ()
        self.addresses: dict[str, int] = {}

    def set_input_shape(self, name: str, shape: tuple[int, ...]) -> bool:
        self.shape = shape
        return True

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return self.shape

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return True

    def execute_async_v3(self, stream: int) -> bool:
        count = 4 * self.shape[0] * self.shape[1]
        ctypes.memmove(self.addresses["y"], self.addresses["x"], count)
        return self.works


class Runtime:
    """Makes an engine of anything but bytes that say they are bad."""

    def __init__(self, log: Any) -> None:
        self.log = log

    def deserialize_cuda_engine(self, content: bytes) -> Any:
        if content == b"bad":
            self.log.log(SimpleNamespace(name="ERROR"), "the plan is bad")
            return None
        return SimpleNamespace(create_execution_context=Context)


class ILogger:
    """The base of loggers, as far as it is used."""


@pytest.fixture
def library(monkeypatch: pytest.MonkeyPatch) -> Library:
    """Put a package in place whose GPU is the CPU."""
    module = SimpleNamespace(__version__="1.7", Runtime=Runtime, ILogger=ILogger)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", module)
    monkeypatch.setattr(running, "DEVICE", "cpu")
    stream = SimpleNamespace(cuda_stream=0, synchronize=lambda: None)
    for name, value in {
        "is_available": True,
        "get_device_capability": (8, 6),
        "get_device_name": "a GPU",
        "current_stream": stream,
    }.items():
        monkeypatch.setattr(torch.cuda, name, lambda value=value: value)
    return Library("tensorrt_rtx", module)


def an_engine(folder: Path, library: Library, content: bytes = b"engine") -> Path:
    """Write an engine with its facts."""
    path = folder / "net.engine"
    path.write_bytes(content)
    report = bnfuse.explain(nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).eval())
    built = Built(content, {}, (INPUT,), (OUTPUT,), "", 0.1)
    beside(path).write_text(facts_of(built, library, ("8.6",), report).to_json())
    return path


def test_inputs_and_outputs_are_handed_over(tmp_path: Path, library: Library) -> None:
    session = EngineSession(an_engine(tmp_path, library))
    assert session.dtype is torch.float32
    assert session.described == "cuda (a GPU), tensorrt_rtx 1.7"
    for batch in (1, 4):
        x = torch.randn(3, batch).T  # not contiguous
        (y,) = session.run(((x,), {}))
        assert torch.equal(y, x)


@pytest.mark.parametrize(
    ("arguments", "wanted"),
    [
        ((), r"the engine takes 1 inputs \(x\) and 0 tensors are given"),
        ((torch.zeros(5, 3),), r"takes x in torch\.float32 from \(1, 3\) to \(4, 3\) and got"),
        ((torch.zeros(0, 3),), "to build|takes x in"),
        ((torch.zeros(2, 3, 1),), r"got torch\.float32 of \(2, 3, 1\)"),
        ((torch.zeros(2, 3).half(),), r"got torch\.float16 of \(2, 3\)"),
    ],
)
def test_inputs_that_do_not_fit(
    tmp_path: Path, library: Library, arguments: tuple[Any, ...], wanted: str
) -> None:
    session = EngineSession(an_engine(tmp_path, library))
    with pytest.raises(RequestError, match=wanted):
        session.run((arguments, {}))


def test_engine_that_does_not_load(tmp_path: Path, library: Library) -> None:
    with pytest.raises(ExportError, match=r"cannot load .*net\.engine \(the plan is bad\): build"):
        EngineSession(an_engine(tmp_path, library, b"bad"))


def test_engine_that_fails(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = EngineSession(an_engine(tmp_path, library))
    monkeypatch.setattr(Context, "works", False)
    with pytest.raises(ExportError, match=r"the engine failed \(it does not say why\)"):
        session.run(((torch.zeros(1, 3),), {}))


def test_library_that_is_missing(
    tmp_path: Path, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = an_engine(tmp_path, library)
    monkeypatch.setitem(sys.modules, "tensorrt_rtx", None)
    with pytest.raises(MissingDependencyError, match=r"^tensorrt_rtx is needed for TensorRT"):
        EngineSession(path)
