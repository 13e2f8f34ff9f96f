"""Compiling with Torch-TensorRT: its arguments, and what is said where it cannot be used."""

from __future__ import annotations

import ast
import sys
from importlib import metadata, util
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

import bnfuse
import bnfuse.export.torch_tensorrt as compiling
from bnfuse.errors import (
    BnfuseError,
    ExportError,
    MissingDependencyError,
    RequestError,
    VerificationError,
)
from bnfuse.export.torch_tensorrt import settings_of
from tests.support import sequential

X = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(3))


class FixedBatch(nn.Module):
    """A model for two samples at a time."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Any) -> Any:
        return self.bn(self.fc(x)).reshape(2, 2, 2)


class Backend:
    """Stands in for the package: runs the program as it is, and notes what it was given."""

    def __init__(self) -> None:
        self.given: dict[str, Any] = {}
        self.factor = 1.0
        self.dynamo = SimpleNamespace(compile=self.compile)

    def compile(self, program: Any, **arguments: Any) -> nn.Module:
        self.given = {"program": program, **arguments}
        module = program.module()
        if self.factor == 1.0:
            return module
        return nn.Sequential(module, nn.Hardtanh(0, 1e-3))

    @staticmethod
    def Input(**shapes: Any) -> Any:  # noqa: N802  # as the package names it
        return SimpleNamespace(**shapes)


@pytest.fixture
def backend(monkeypatch: pytest.MonkeyPatch) -> Backend:
    """Put a package in place that compiles for the CPU."""
    made = Backend()
    monkeypatch.setattr(compiling, "load_backend", lambda: made)
    monkeypatch.setattr(compiling, "_device", lambda: torch.device("cpu"))
    return made


def small() -> nn.Module:
    """Return a model with a batch norm."""
    return sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU()).float()


def test_settings_and_sizes(backend: Backend) -> None:
    made = bnfuse.compile_tensorrt(small(), (X,), optimization_level=3, workspace_bytes=1024)
    given = backend.given
    assert given["min_block_size"] == 1
    assert given["disable_tf32"]
    assert (given["optimization_level"], given["workspace_size"]) == (3, 1024)
    assert given["device"] == torch.device("cpu")
    assert given["kwarg_inputs"] == {}
    (x,) = given["arg_inputs"]
    assert (x.min_shape, x.opt_shape) == ((1, 3, 6, 6), (2, 3, 6, 6))
    assert (x.max_shape, x.dtype) == ((32, 3, 6, 6), torch.float32)
    names = [str(node.target) for node in given["program"].graph.nodes]
    assert not any("batch_norm" in name for name in names)
    assert len(bnfuse.report(made).folded) == 1
    assert made.verification is not None
    assert made.verification.passed
    assert torch.allclose(made(X), small()(X), atol=1e-5)


def test_precision_is_the_dtype_of_the_program(backend: Backend) -> None:
    made = bnfuse.compile_tensorrt(small(), (X,), dtype=torch.float16)
    assert backend.given["arg_inputs"][0].dtype == torch.float16
    assert {t.dtype for t in backend.given["program"].state_dict.values()} == {torch.float16}
    assert "enabled_precisions" not in backend.given
    assert made(X.half()).dtype == torch.float16
    assert made.verification is not None


def test_sizes_as_asked(backend: Backend) -> None:
    height = torch.export.Dim("height", min=4, max=12)
    bnfuse.compile_tensorrt(small(), (X,), dynamic_shapes={"input": {2: height}}, verify=False)
    (x,) = backend.given["arg_inputs"]
    assert (x.min_shape, x.max_shape) == ((2, 3, 4, 6), (2, 3, 12, 6))


def test_model_that_fixes_its_batch(backend: Backend) -> None:
    model = sequential(FixedBatch()).float()
    bnfuse.compile_tensorrt(bnfuse.optimize(model), (torch.randn(2, 4),))
    (x,) = backend.given["arg_inputs"]
    assert isinstance(x, torch.Tensor)


def test_result_that_is_wrong(backend: Backend) -> None:
    backend.factor = 0.0
    with pytest.raises(VerificationError):
        bnfuse.compile_tensorrt(small(), (X,))
    assert bnfuse.compile_tensorrt(small(), (X,), verify=False).verification is None


def test_model_that_the_package_does_not_take(
    backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(program: Any, **arguments: Any) -> None:
        raise AssertionError("no converter\nfor it")

    monkeypatch.setattr(backend.dynamo, "compile", fail)
    pattern = r"cannot compile the model \(AssertionError: no converter\): bnfuse\.export_tensorrt"
    with pytest.raises(ExportError, match=pattern):
        bnfuse.compile_tensorrt(small(), (X,))


def test_wrong_requests(backend: Backend) -> None:
    for pattern, model, more in (
        (r"does not compute in torch\.float64", small().double(), {}),
        ("optimization_level is 9: pass 0 to 5", small(), {"optimization_level": 9}),
        ("open without a bound", small(), {"dynamic_shapes": {"input": {2: "height"}}}),
        ("cannot run on the example inputs", nn.Linear(7, 2).eval(), {}),
    ):
        arguments: dict[str, Any] = more
        with pytest.raises(RequestError, match=pattern):
            bnfuse.compile_tensorrt(model, (X,), **arguments)
    assert backend.given == {}


def refused(
    monkeypatch: pytest.MonkeyPatch,
    versions: dict[str, str],
    error: type[BnfuseError],
    pattern: str,
    has_gpu: bool = False,
) -> None:
    """Check what is said with these distributions installed."""

    def version(name: str) -> str:
        if name not in versions:
            raise metadata.PackageNotFoundError(name)
        return versions[name]

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    with pytest.raises(error, match=pattern):
        bnfuse.compile_tensorrt(small(), (X,))


def test_package_that_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    pattern = r"not installed: pip install 'bnfuse\[tensorrt\]'\.$"
    refused(monkeypatch, {}, MissingDependencyError, pattern)


@pytest.mark.parametrize("version", ["2.10.0", "2.15.0+cu130", "3.0"])
def test_version_that_is_not_known(monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    pattern = r"are known from 2\.11 to 2\.14: pip install 'torch-tensorrt>=2\.11,<2\.15'"
    refused(monkeypatch, {"torch-tensorrt": version}, ExportError, pattern, has_gpu=True)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """The package is not even imported: without a driver that raises RuntimeError (PR #4504)."""
    monkeypatch.setitem(sys.modules, "torch_tensorrt", None)
    pattern = "there is no NVIDIA GPU or driver here"
    refused(monkeypatch, {"torch-tensorrt-rtx": "2.14.0"}, ExportError, pattern)


def test_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch_tensorrt.py").write_text("raise OSError('libnvinfer.so.11: no such file')")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "torch_tensorrt", raising=False)
    pattern = r"installed and does not import \(OSError: libnvinfer\.so\.11: no such file\)"
    versions = {"torch-tensorrt": "2.14.0"}
    refused(monkeypatch, versions, MissingDependencyError, pattern, has_gpu=True)


def parameters_of_compile(package: Path) -> set[str]:
    """Read the arguments of ``dynamo.compile`` from its source: to import it takes a driver."""
    tree = ast.parse((package / "dynamo" / "_compiler.py").read_text())
    functions = {node.name: node for node in tree.body if isinstance(node, ast.FunctionDef)}
    given = functions["compile"].args
    return {argument.arg for argument in (*given.args, *given.kwonlyargs)}


def test_arguments_are_those_of_the_installed_package() -> None:
    """What it does not know it takes for a keyword of its own and ignores."""
    found = util.find_spec("torch_tensorrt")
    if found is None or found.origin is None:
        pytest.skip("torch_tensorrt is not installed")
    known = parameters_of_compile(Path(found.origin).parent)
    used = {*settings_of(3, 0), "device", "arg_inputs", "kwarg_inputs"}
    assert used <= known


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")
@pytest.mark.parametrize("dtype", [None, torch.float16, torch.bfloat16])
def test_compiled_model_runs_and_is_compared(dtype: torch.dtype | None) -> None:
    pytest.importorskip("torch_tensorrt")
    made = bnfuse.compile_tensorrt(small(), (X,), dtype=dtype)
    assert made.verification is not None
    assert made.verification.passed
    assert bnfuse.verify(small(), made, (X,)).passed
