"""Exporting engines: what is written, what is checked, and what is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
import bnfuse.export.tensorrt as exporting
from bnfuse.errors import (
    BnfuseError,
    ExportError,
    MissingDependencyError,
    RequestError,
    VerificationError,
)
from bnfuse.export.tensorrt_facts import beside, read_facts
from tests.export.support import contents
from tests.support import sequential

if TYPE_CHECKING:
    from pathlib import Path

RTX = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
NO_GPU = "The engine's numbers were not checked on a device: there is no NVIDIA GPU here."
without_gpu = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")


class Determinant(nn.Module):
    """A model with an operator that TensorRT has not."""

    def forward(self, x: Any) -> Any:
        return torch.linalg.det(x)


def small() -> nn.Module:
    """Return a model of two convolutions with batch norms."""
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    return sequential(*layers, nn.BatchNorm2d(2)).float()


X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(3))


@without_gpu
def test_engine_in_half_precision(tmp_path: Path) -> None:
    done = bnfuse.export_tensorrt(small(), tmp_path / "a.engine", (X,), dtype=torch.float16)
    assert sorted(contents(tmp_path)) == ["a.engine", "a.engine.json"]
    assert done.path == tmp_path / "a.engine"
    assert done.layers == {"CONVOLUTION": 2, "ACTIVATION": 1}
    assert done.verification is None
    assert done.note == NO_GPU
    assert done.graph_verification is not None
    assert done.graph_verification.passed
    assert len(done.report.folded) == 2
    assert done.built_by == f"tensorrt_rtx {RTX.__version__}"
    assert done.dynamic_batch
    assert done.seconds > 0
    facts = read_facts(done.path)
    assert facts.compute_capabilities == done.compute_capabilities
    assert (facts.inputs[0].dtype, facts.inputs[0].largest) == ("HALF", (32, 3, 6, 6))
    with pytest.raises(ExportError, match="cannot be loaded without an NVIDIA GPU"):
        bnfuse.verify(small(), done.path, (X,))


def test_same_call_writes_the_same_bytes(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).mkdir()
        bnfuse.export_tensorrt(small(), tmp_path / name / "net.engine", (X,), dtype=torch.float16)
    assert contents(tmp_path / "a") == contents(tmp_path / "b")


@without_gpu
def test_bfloat16_says_that_nothing_was_run(tmp_path: Path) -> None:
    done = bnfuse.export_tensorrt(small(), tmp_path / "a.plan", (X,), dtype=torch.bfloat16)
    assert done.graph_verification is None
    assert done.note == (
        f"{NO_GPU} Nor was the graph it was built from: onnxruntime has no bfloat16 on a CPU."
    )
    assert read_facts(done.path).inputs[0].dtype == "BF16"


def test_sizes_and_targets_as_asked(tmp_path: Path) -> None:
    height = torch.export.Dim("height", min=4, max=12)
    done = bnfuse.export_tensorrt(
        bnfuse.optimize(small()),
        tmp_path / "a.engine",
        (X,),
        dynamic_shapes={"input": {2: height}},
        compute_capabilities=("8.6",),
    )
    (port,) = read_facts(done.path).inputs
    assert (port.shape, port.smallest) == ((2, 3, -1, 6), (2, 3, 4, 6))
    assert (port.best, port.largest) == ((2, 3, 6, 6), (2, 3, 12, 6))
    assert not done.dynamic_batch
    assert done.compute_capabilities == ("8.6",)


def refused(folder: Path, error: type[BnfuseError], pattern: str, **more: Any) -> None:
    """Check that an export fails and leaves the files as they were."""
    before = contents(folder)
    call: dict[str, Any] = {"model": small(), "path": folder / "net.engine"}
    call |= {"example_inputs": (X,)} | more
    with pytest.raises(error, match=pattern):
        bnfuse.export_tensorrt(**call)
    assert contents(folder) == before


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with an earlier engine."""
    (tmp_path / "net.engine").write_bytes(b"earlier")
    beside(tmp_path / "net.engine").write_text("earlier")
    return tmp_path


def test_operator_that_tensorrt_has_not(folder: Path) -> None:
    call = {"model": Determinant().eval(), "example_inputs": (torch.randn(2, 3, 3),)}
    refused(folder, ExportError, "has no operator Det like the one at", **call)


def test_float64(folder: Path) -> None:
    model = small().double()
    refused(
        folder,
        RequestError,
        r"^TensorRT does not compute in torch\.float64: pass dtype=torch\.float16 or torch\.bf",
        model=model,
        example_inputs=(X.double(),),
    )


def test_wrong_requests(folder: Path) -> None:
    refused(folder, RequestError, "does not end in .engine", path=folder / "net.onnx")
    refused(folder, RequestError, "dtype is torch.int8", dtype=torch.int8)
    refused(folder, RequestError, "cannot run on the example", example_inputs=(X[:, :2],))
    refused(folder, RequestError, "does not build for", compute_capabilities=("9.0",))
    open_height = {"input": {2: "height"}}
    refused(folder, RequestError, "open without a bound", dynamic_shapes=open_height)
    pattern = r"missing/net\.engine cannot be written \(No such file"
    refused(folder, ExportError, pattern, path=folder / "missing" / "net.engine")


def test_nothing_installed(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("tensorrt", "tensorrt_rtx"):
        monkeypatch.setitem(sys.modules, name, None)
    refused(folder, MissingDependencyError, r"pip install 'bnfuse\[tensorrt-rtx\]'")


def test_engine_that_computes_something_else(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a machine whose GPU can run it: what the engine returns decides."""
    monkeypatch.setattr(exporting, "_not_run", lambda targets: "")
    found = bnfuse.verify(small(), sequential(*list(small().children())[:-1]).float(), (X,))
    assert not found.passed
    monkeypatch.setattr(exporting, "compared", lambda *arguments: found)
    refused(folder, VerificationError, r"net\.engine")


def test_note_on_a_gpu_that_it_is_not_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    note = exporting._not_run(("8.6",))
    assert note.endswith("the GPU here has compute capability 9.0, and it is built for others.")
    assert exporting._not_run(("9.0",)) == ""


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_engine_runs_and_is_compared(tmp_path: Path, dtype: torch.dtype | None) -> None:
    done = bnfuse.export_tensorrt(small(), tmp_path / "net.engine", (X,), dtype=dtype)
    if done.note:
        pytest.skip(done.note)
    assert done.verification is not None
    assert done.verification.passed
    assert bnfuse.verify(small(), done.path, (X,)).passed
