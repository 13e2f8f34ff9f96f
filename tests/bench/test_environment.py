"""The machine and the versions, as far as they can be found."""

from __future__ import annotations

import platform
import types
from importlib import metadata
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bnfuse.bench import environment as module
from bnfuse.bench.environment import environment
from bnfuse.kernels.installed import Installed

if TYPE_CHECKING:
    from pathlib import Path


def test_versions_are_those_that_are_installed() -> None:
    found = environment()
    assert found["python"] == platform.python_version()
    assert found["torch"] == metadata.version("torch")
    assert found["threads"] == str(torch.get_num_threads())
    assert found["processor"].strip() == found["processor"] != ""


def test_packages_that_are_missing_are_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def version(name: str) -> str:
        if name != "torch":
            raise metadata.PackageNotFoundError(name)
        return "1.2.3"

    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(module, "installed", lambda: Installed(None, ""))
    found = environment()
    assert list(found) == ["python", "processor", "threads", "torch"]
    assert found["torch"] == "1.2.3"


def test_onednn_is_named_where_it_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = types.SimpleNamespace(version=(3, 9, 1))
    monkeypatch.setattr(module, "installed", lambda: Installed(library, ""))
    assert environment()["onednn"] == "3.9.1"


def test_gpu_is_named_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    assert environment()["gpu"] == "a GPU"
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert "gpu" not in environment()


@pytest.mark.parametrize(
    ("cpuinfo", "wanted"),
    [
        ("model name\t: First 3000\nother : x\nmodel name : Second\n", "First 3000"),
        ("Features : fp asimd\n", "armv9"),
        ("", "armv9"),
    ],
)
def test_processor_is_read_from_the_system(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, cpuinfo: str, wanted: str
) -> None:
    path = tmp_path / "cpuinfo"
    path.write_text(cpuinfo)
    monkeypatch.setattr("bnfuse.bench.environment.Path", lambda _: path)
    monkeypatch.setattr(platform, "machine", lambda: "armv9")
    assert environment()["processor"] == wanted


@pytest.mark.parametrize(("name", "wanted"), [("M9", "M9"), ("", "arm64")])
def test_processor_of_systems_without_that_file(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str, wanted: str
) -> None:
    monkeypatch.setattr("bnfuse.bench.environment.Path", lambda _: tmp_path / "missing")
    monkeypatch.setattr(platform, "processor", lambda: name)
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert environment()["processor"] == wanted
