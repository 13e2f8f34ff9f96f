"""Exporting to a model repository: what is in it, and what is refused."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import BnfuseError, ExportError, MissingDependencyError, RequestError
from bnfuse.export import triton_model
from bnfuse.export.triton_config import read_config
from tests.export.support import contents
from tests.support import sequential

if TYPE_CHECKING:
    from pathlib import Path

pytest.importorskip("tritonclient.grpc", reason="tritonclient is not installed")
X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(3))


class FixedBatch(nn.Module):
    """A model for two samples at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        return self.bn(self.fc(x)).reshape(2, 2, 2)


def small() -> nn.Module:
    """Return a model with a batch norm."""
    return sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).float()


def test_repository_for_onnxruntime(tmp_path: Path) -> None:
    done = bnfuse.export_triton(small(), tmp_path, "net", (X,), max_batch_size=8)
    made = contents(tmp_path)
    assert sorted(made) == ["net/1/model.onnx", "net/config.pbtxt"]
    assert made["net/config.pbtxt"].decode() == done.config
    assert (done.path, done.version, done.backend) == (tmp_path / "net", 1, "onnxruntime")
    assert done.verification is not None
    assert done.verification.passed
    assert done.note == ""
    assert len(done.report.folded) == 1
    config = read_config(done.config)
    assert config.max_batch_size == 8
    assert [tuple(entry.dims) for entry in config.input] == [(3, 6, 6)]
    assert [tuple(entry.dims) for entry in config.output] == [(4, 4, 4)]


def test_second_version_keeps_the_configuration(tmp_path: Path) -> None:
    bnfuse.export_triton(small(), tmp_path, "net", (X,))
    config = tmp_path / "net/config.pbtxt"
    config.write_text(f"{config.read_text()}# tuned by hand\n")
    before = contents(tmp_path)
    done = bnfuse.export_triton(small(), tmp_path, "net", (X,), instances=4, new_version=True)
    assert (done.version, done.is_config_new) == (2, False)
    assert done.config.endswith("# tuned by hand\n")
    after = contents(tmp_path)
    assert after.pop("net/2/model.onnx") == before["net/1/model.onnx"]
    assert after == before


def test_repository_for_python_carries_what_runs_it(tmp_path: Path) -> None:
    bnfuse.export_triton(small(), tmp_path, "net", (X,), backend="python", kind="cpu")
    made = contents(tmp_path)
    assert sorted(made) == ["net/1/model.onnx", "net/1/model.py", "net/config.pbtxt"]
    assert b"class TritonPythonModel:" in made["net/1/model.py"]
    assert "bnfuse" not in triton_model.__dict__
    assert b"import bnfuse" not in made["net/1/model.py"]
    assert b"from bnfuse" not in made["net/1/model.py"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_repository_for_tensorrt(tmp_path: Path) -> None:
    pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
    done = bnfuse.export_triton(
        small(), tmp_path, "net", (X,), backend="tensorrt", dtype=torch.float16, max_batch_size=64
    )
    assert sorted(contents(tmp_path / "net/1")) == ["model.plan", "model.plan.json"]
    assert done.verification is None
    assert done.note.startswith("The engine's numbers were not checked on a device")
    config = read_config(done.config)
    assert config.platform == "tensorrt_plan"
    assert b'"largest": [\n    64,' in (tmp_path / "net/1/model.plan.json").read_bytes()


def test_optimized_model_with_open_sizes(tmp_path: Path) -> None:
    shapes = {"input": {0: "batch", 2: "height"}}
    fused = bnfuse.optimize(small())
    done = bnfuse.export_triton(fused, tmp_path, "net", (X,), dynamic_shapes=shapes, warm_up=False)
    (given,) = read_config(done.config).input
    assert tuple(given.dims) == (3, -1, 6)


def refused(
    folder: Path, error: type[BnfuseError], pattern: str, name: str = "net", **more: Any
) -> None:
    """Check that an export fails and leaves the repository as it was."""
    before = contents(folder)
    call: dict[str, Any] = {"model": small(), "example_inputs": (X,)} | more
    with pytest.raises(error, match=pattern):
        bnfuse.export_triton(repository=folder, name=name, **call)
    assert contents(folder) == before


def test_name_that_is_live(tmp_path: Path) -> None:
    bnfuse.export_triton(small(), tmp_path, "net", (X,))
    refused(tmp_path, RequestError, "net is there already, with versions 1: pass new_version=True")
    pattern = "is live with another max batch size"
    refused(tmp_path, RequestError, pattern, new_version=True, max_batch_size=4)


def test_model_that_fixes_its_batch(tmp_path: Path) -> None:
    model = sequential(FixedBatch()).float()
    call: dict[str, Any] = {"model": model, "example_inputs": (torch.randn(2, 4),)}
    refused(tmp_path, RequestError, "has no open batch size", **call)
    done = bnfuse.export_triton(
        model, tmp_path, "net", (torch.randn(2, 4),), max_batch_size=0, warm_up=False
    )
    assert tuple(read_config(done.config).input[0].dims) == (2, 4)


def test_wrong_requests(tmp_path: Path) -> None:
    refused(tmp_path, RequestError, "backend is 'openvino'", backend="openvino")
    refused(tmp_path, RequestError, "does not run bfloat16", dtype=torch.bfloat16)
    refused(tmp_path, RequestError, "those of engines", compute_capabilities=("8.6",))
    refused(tmp_path, RequestError, "cannot run on the example", example_inputs=(X[:, :2],))
    refused(tmp_path, RequestError, "cannot be the name", name="../net")


def test_repository_that_cannot_be_written(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "models"
    with pytest.raises(ExportError, match=r"missing/models cannot be written \(No such"):
        bnfuse.export_triton(small(), path, "net", (X,))
    assert contents(tmp_path) == {}


def test_tritonclient_that_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tritonclient.grpc", None)
    refused(tmp_path, MissingDependencyError, r"pip install 'bnfuse\[triton\]'")
