"""What the doctor finds, in installations of many kinds."""

from __future__ import annotations

import importlib
import json
import types
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
import rich.console
import torch

from bnfuse.cli import doctor
from bnfuse.cli.doctor import Diagnosis, Finding, diagnose
from bnfuse.kernels.cudnn_calls import Cudnn
from bnfuse.kernels.installed import VARIABLE, Installed
from bnfuse.kernels.probe import Onednn, onednn
from bnfuse.kernels.triton_probe import Found

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.cli.support import Run

ALL = {"torch": "2", "onnx": "1", "onnxscript": "0.5", "torchvision": "0.2", "timm": "1.0"}
CPU = {**ALL, "onnxruntime": "1.23"}


@pytest.fixture
def install(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return the function that says what is installed, and what raises when imported."""
    onednn()  # it looks once, and PyTorch imports more of itself then

    def set_up(versions: dict[str, str], **broken: Exception) -> None:
        def version(name: str) -> str:
            if name not in versions:
                raise metadata.PackageNotFoundError(name)
            return versions[name]

        real = importlib.import_module

        def import_module(name: str, package: str | None = None) -> types.ModuleType:
            if package is not None:  # some other package's own parts
                return real(name, package)
            if name in broken:
                raise broken[name]
            if name not in versions and not (
                name == "onnxruntime" and "onnxruntime-gpu" in versions
            ):
                raise ModuleNotFoundError(f"No module named {name!r}")
            made = types.ModuleType(name)
            vars(made)["get_available_providers"] = lambda: ["A", "B"]
            return made

        monkeypatch.setattr(metadata, "version", version)
        monkeypatch.setattr(importlib, "import_module", import_module)
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)

    return set_up


def found(what: str) -> Finding:
    """Return the finding about one thing."""
    (finding,) = [finding for finding in diagnose().findings if finding.what == what]
    return finding


def text_of(diagnosis: Diagnosis) -> str:
    """Return the table on a wide terminal."""
    console = rich.console.Console(width=250, no_color=True)
    with console.capture() as captured:
        console.print(diagnosis.as_table())
    return captured.get()


def test_all_is_well(install: Callable[..., None]) -> None:
    install(CPU)
    assert diagnose().conflicts == []
    for name in ("onnx", "onnxscript", "torchvision", "timm"):
        assert found(name) == Finding(name, ALL[name])
    assert found("onnxruntime") == Finding("onnxruntime", "1.23: A, B")
    assert found("torch") == Finding("torch", "2")


def test_both_distributions_of_onnxruntime_are_a_conflict(install: Callable[..., None]) -> None:
    install({**CPU, "onnxruntime-gpu": "1.22"})
    assert found("onnxruntime") == Finding(
        "onnxruntime",
        "1.23 and 1.22 (gpu)",
        "both onnxruntime and onnxruntime-gpu are installed and overwrite each other: "
        "pip uninstall -y onnxruntime onnxruntime-gpu, then install one of them",
        is_conflict=True,
    )
    assert [finding.what for finding in diagnose().conflicts] == ["onnxruntime"]


def test_gpu_distribution_alone_is_well(install: Callable[..., None]) -> None:
    install({**ALL, "onnxruntime-gpu": "1.22"})
    assert found("onnxruntime") == Finding("onnxruntime", "1.22: A, B")


@pytest.mark.parametrize("name", ["onnx", "onnxscript", "torchvision", "timm"])
def test_broken_package_is_a_conflict(install: Callable[..., None], name: str) -> None:
    install(CPU, **{name: RuntimeError("operator nms does not exist")})
    assert found(name) == Finding(
        name,
        ALL[name],
        "does not import (operator nms does not exist): "
        "reinstall it with versions from constraints.txt",
        is_conflict=True,
    )
    assert [finding.what for finding in diagnose().conflicts] == [name]


def test_broken_onnxruntime_is_a_conflict(install: Callable[..., None]) -> None:
    install(CPU, onnxruntime=ImportError("libcudart.so not found"))
    remedy = "does not work (libcudart.so not found): pip install --force-reinstall it"
    assert found("onnxruntime") == Finding("onnxruntime", "1.23", remedy, is_conflict=True)


@pytest.mark.parametrize(
    ("name", "extra"),
    [
        ("onnx", "cpu"),
        ("onnxscript", "cpu"),
        ("torchvision", "zoo"),
        ("timm", "zoo"),
        ("matplotlib", "plot"),
        ("tensorrt_rtx", "tensorrt-rtx"),
        ("torch_tensorrt", "tensorrt"),
        ("tritonclient", "triton"),
    ],
)
def test_missing_package_has_a_remedy(install: Callable[..., None], name: str, extra: str) -> None:
    install({key: value for key, value in CPU.items() if key != name})
    finding = found(name)
    assert (finding.found, finding.is_conflict) == ("", False)
    assert finding.remedy.startswith(f"pip install 'bnfuse[{extra}]'  (")
    assert f"pip install 'bnfuse[{extra}]'" in text_of(diagnose())


def test_missing_onnxruntime_has_a_remedy(install: Callable[..., None]) -> None:
    install(ALL)
    remedy = "pip install 'bnfuse[cpu]', or 'bnfuse[gpu]' for NVIDIA GPUs"
    assert found("onnxruntime") == Finding("onnxruntime", "", remedy)
    assert remedy in text_of(diagnose())


@pytest.mark.parametrize(
    ("cuda", "reason"),
    [(None, "this build of torch has no CUDA"), ("13.0", "no driver or GPU")],
)
def test_gpu_is_not_needed(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch, cuda: str | None, reason: str
) -> None:
    install(CPU)
    monkeypatch.setattr(torch.version, "cuda", cuda)
    remedy = f"none is needed; {reason}, so everything runs on the CPU"
    assert found("gpu") == Finding("gpu", "", remedy)


def test_gpu_is_named(install: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    install(CPU)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.version, "cuda", "13.0")
    monkeypatch.setattr(doctor, "cudnn", lambda _: Cudnn(frozenset(), ""))
    monkeypatch.setattr(doctor, "triton", lambda _: Found(frozenset(), ""))
    assert found("gpu") == Finding("gpu", "a GPU, CUDA 13.0")
    monkeypatch.setattr(doctor, "triton", lambda _: Found(frozenset(), "triton is not installed"))
    remedy = "triton is not installed: plain operators run instead, slower"
    assert found("gpu") == Finding("gpu", "a GPU, CUDA 13.0", remedy)
    monkeypatch.setattr(doctor, "cudnn", lambda _: Cudnn(frozenset(), "torch 9.0 changed all"))
    remedy = "torch 9.0 changed all; triton is not installed: plain operators run instead, slower"
    assert found("gpu") == Finding("gpu", "a GPU, CUDA 13.0", remedy)


def test_fused_kernels_are_looked_at(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(CPU)
    assert found("kernels").found.startswith("oneDNN: ")
    assert found("kernels").remedy == ""
    changed = Onednn(frozenset(), "torch 9.0 changed all")
    monkeypatch.setattr(doctor, "onednn", lambda: changed)
    remedy = "torch 9.0 changed all: plain operators run instead, slower"
    assert found("kernels") == Finding("kernels", "", remedy)


def test_the_library_is_looked_at(
    install: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    install(CPU)
    library: Any = types.SimpleNamespace(version=(3, 2, 0))
    monkeypatch.setattr(doctor, "installed", lambda: Installed(library, "oneDNN 3.2.0, /a/path"))
    assert found("oneDNN") == Finding("oneDNN", "3.2.0, /a/path")
    monkeypatch.setattr(doctor, "installed", lambda: Installed(None, "nothing is installed"))
    monkeypatch.delenv(VARIABLE, raising=False)
    head = "nothing is installed: small layers take longer, by some 30 µs a call; "
    assert found("oneDNN").remedy == head + "on Linux, x86-64, pip install 'bnfuse[cpu]'"
    monkeypatch.setenv(VARIABLE, "")
    assert found("oneDNN").remedy == head + "unset BNFUSE_ONEDNN"
    assert not found("oneDNN").is_conflict


def test_table_has_a_row_for_each_finding(install: Callable[..., None]) -> None:
    install({"torch": "2"})
    diagnosis = diagnose()
    lines = [line.split() for line in text_of(diagnosis).splitlines()]
    assert lines[0] == ["found", "to", "mend"]
    assert [line[0] for line in lines[1:]] == [finding.what for finding in diagnosis.findings]
    assert [line[1] for line in lines if line[0] in ("onnx", "timm")] == ["missing", "missing"]
    assert [line[-1] for line in lines if line[0] == "torch"] == ["ok"]


def test_dictionary_is_ready_for_json(install: Callable[..., None]) -> None:
    install(CPU)
    plain = json.loads(json.dumps(diagnose().to_dict()))
    assert plain["findings"][-1] == {
        "what": "onnxruntime",
        "found": "1.23: A, B",
        "remedy": "",
        "is_conflict": False,
    }


@pytest.mark.parametrize(("more", "code"), [({}, 0), ({"onnxruntime-gpu": "1.22"}, 1)])
def test_exit_code(run: Run, install: Callable[..., None], more: dict[str, str], code: int) -> None:
    install({**CPU, **more})
    outcome = run("doctor")
    assert outcome.code == code
    assert outcome.err == ""
    assert ("overwrite each other" in outcome.words) is bool(code)
    assert run("doctor", "--json").code == code
