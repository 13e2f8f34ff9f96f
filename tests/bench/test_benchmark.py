"""The benchmark of a tiny model."""

from __future__ import annotations

import copy
import re
import sys
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.bench.measure import CALLS_PER_BLOCK
from bnfuse.errors import RequestError
from tests.support import sequential

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.bench import Benchmark


def tiny() -> nn.Module:
    """Return a tiny model in float32."""
    return sequential(nn.Linear(4, 3), nn.BatchNorm1d(3), nn.ReLU()).float()


def run(model: nn.Module | None = None, **options: Any) -> Benchmark:
    """Benchmark for a moment on the CPU."""
    options = {"seconds": 0.2, "device": "cpu", **options}
    return bnfuse.benchmark(model or tiny(), (torch.randn(2, 4),), **options)


def run_with(inputs: Any) -> Benchmark:
    """Benchmark on other inputs."""
    return bnfuse.benchmark(tiny(), inputs, seconds=0.1, device="cpu")


def refused(wanted: str, *args: Any, **options: Any) -> None:
    """Check that a benchmark is refused with a message."""
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        bnfuse.benchmark(*args, **{"seconds": 0.1, "device": "cpu", **options})


@pytest.fixture(scope="module")
def small_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a file of the tiny model."""
    path = tmp_path_factory.mktemp("bench") / "tiny.onnx"
    bnfuse.export_onnx(tiny(), path, (torch.randn(2, 4),), verify=False)
    return path


def test_three_rows_of_the_same_length() -> None:
    model, told = tiny(), list[float]()
    before = copy.deepcopy(model.state_dict())
    result = run(model, on_progress=told.append)
    assert [timing.name for timing in result.timings] == ["eager", "bnfuse", "onnxruntime"]
    assert result.left_out == ()
    assert result.model == "Sequential"
    assert result.environment["torch"] == metadata.version("torch")
    assert len({len(timing.blocks) for timing in result.timings}) == 1
    lengths = {len(block) for timing in result.timings for block in timing.blocks}
    assert lengths == {CALLS_PER_BLOCK - 1}
    assert len(result.timings[0].blocks) == len(told) >= 3
    assert told == sorted(told)
    assert told[-1] == 1.0
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())


def test_given_file_is_timed(small_file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfuse.export.export_onnx", lambda *_, **__: pytest.fail("exported"))
    assert [timing.name for timing in run(onnx=str(small_file)).timings][2:] == ["onnxruntime"]


def test_without_onnxruntime_its_row_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    result = run()
    assert [timing.name for timing in result.timings] == ["eager", "bnfuse"]
    (left_out,) = result.left_out
    assert left_out.name == "onnxruntime"
    assert left_out.note == (
        "onnxruntime is needed to run ONNX files and does not import (import of onnxruntime "
        "halted; None in sys.modules): pip install 'bnfuse[cpu]'."
    )
    assert "onnxruntime" in str(result)


def test_without_the_exporter_its_row_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxscript", None)
    (left_out,) = run().left_out
    assert left_out.note.startswith("onnxscript is needed to export ONNX and does not import (")


def test_a_given_file_that_cannot_run_is_an_error(small_file: Path) -> None:
    model = sequential(nn.Linear(5, 3), nn.BatchNorm1d(3)).float()
    with pytest.raises(RequestError, match=r"^the file cannot run on these inputs \("):
        bnfuse.benchmark(model, (torch.randn(2, 5),), seconds=0.1, onnx=small_file, device="cpu")


def test_a_given_file_that_is_missing_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    with pytest.raises(RequestError, match=re.escape(f"there is no file {path}: check the path.")):
        run(onnx=path)


@pytest.mark.parametrize(
    ("name", "what", "instead"),
    [
        (
            "net.pt2",
            "ends in .pt2",
            "time it as the model itself, as bnfuse bench net.pt2 does",
        ),
        ("net.engine", "ends in .engine", "leave it out to time the optimized model"),
        ("net", "has no suffix", "leave it out to time the optimized model"),
    ],
)
def test_a_file_of_another_kind_is_an_error(name: str, what: str, instead: str) -> None:
    wanted = (
        f"bench times .onnx files beside the model, and {name} {what}: pass a file that "
        f"bnfuse.export_onnx wrote, or {instead}."
    )
    refused(wanted, tiny(), (torch.randn(2, 4),), onnx=name)


def test_no_file_is_left_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert len(run().timings) == 3
    assert list(tmp_path.iterdir()) == []


def test_model_in_training_mode_is_refused() -> None:
    wanted = (
        "Sequential is in training mode, where batch norm uses the statistics of each batch: "
        "call model.eval() first."
    )
    refused(wanted, tiny().train(), (torch.randn(2, 4),))


def test_what_is_no_model_is_refused() -> None:
    wanted = "optimize takes a torch.nn.Module and got a list: pass the model itself."
    refused(wanted, [], (torch.randn(2, 4),))


def test_inputs_that_do_not_fit_are_refused() -> None:
    wanted = (
        "Sequential cannot run on the example inputs (RuntimeError: mat1 and mat2 shapes cannot "
        "be multiplied (2x5 and 4x3)): pass inputs that the model accepts, "
        "or --input SHAPE on the command line."
    )
    refused(wanted, tiny(), (torch.randn(2, 5),))


@pytest.mark.parametrize("seconds", [0, -1.0, float("nan"), float("inf")])
def test_times_that_are_none_are_refused(seconds: float) -> None:
    wanted = f"seconds is {seconds}: pass how long to measure, such as 10."
    refused(wanted, tiny(), (torch.randn(2, 4),), seconds=seconds)


def test_unknown_device_is_refused() -> None:
    wanted = "there is no device 'gpu': pass 'cpu' or 'cuda'."
    refused(wanted, tiny(), (torch.randn(2, 4),), device="gpu")


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_gpu_that_is_not_there_is_refused() -> None:
    wanted = "there is no CUDA device 'cuda' here: pass device='cpu'."
    refused(wanted, tiny(), (torch.randn(2, 4),), device="cuda")


def test_one_tensor_stands_for_one_argument() -> None:
    result = run_with(torch.randn(2, 4))
    assert len(result.timings) == 3
