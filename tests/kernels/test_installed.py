"""Which build of oneDNN is used, and why none is."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from bnfuse.kernels import installed as module
from bnfuse.kernels.installed import PACKAGE, VARIABLE, Installed, installed
from tests.kernels.support import LIBRARY, needs_library

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def anew(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Look anew in each test, and after it."""
    monkeypatch.delenv(VARIABLE, raising=False)
    installed.cache_clear()
    yield
    installed.cache_clear()


class Pretended:
    """A build of some version."""

    def __init__(self, version: tuple[int, int, int], *, has_openmp: bool = True) -> None:
        self.version = version
        self.has_openmp = has_openmp


def found(monkeypatch: pytest.MonkeyPatch, library: Any) -> Installed:
    monkeypatch.setenv(VARIABLE, "/some/libdnnl.so.3")
    monkeypatch.setattr(module, "Library", lambda _: library)
    return installed()


@needs_library
def test_that_of_the_package() -> None:
    assert installed().library is not None
    assert installed().note.startswith(f"oneDNN {installed().version}, ")
    assert installed() is installed()


@needs_library
def test_that_of_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    path = installed().note.partition(", ")[2]
    installed.cache_clear()
    monkeypatch.setenv(VARIABLE, path)
    assert LIBRARY is not None
    assert installed().note == f"oneDNN {'.'.join(map(str, LIBRARY.version))}, {path}"


def test_none_is_wanted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "")
    assert installed() == Installed(None, "BNFUSE_ONEDNN is empty")
    assert installed().version == ""


def test_none_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "files", missing)
    assert installed() == Installed(None, f"{PACKAGE} is not installed")
    installed.cache_clear()
    monkeypatch.setattr(metadata, "files", lambda _: None)  # installed without a record
    assert installed().library is None


def test_no_library(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = tmp_path / "libdnnl.so.3"
    path.write_bytes(b"no library")
    monkeypatch.setenv(VARIABLE, str(path))
    assert installed().library is None
    assert installed().note.startswith(f"{path} cannot be used: ")


@pytest.mark.parametrize("version", [(2, 7, 0), (3, 1, 9), (4, 0, 0)])
def test_other_versions(monkeypatch: pytest.MonkeyPatch, version: tuple[int, int, int]) -> None:
    note = found(monkeypatch, Pretended(version)).note
    assert (
        note == f"/some/libdnnl.so.3 is oneDNN {'.'.join(map(str, version))}, not a 3 from 3.2 on"
    )


def test_other_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    wanted = Installed(None, "/some/libdnnl.so.3 does not share PyTorch's OpenMP")
    assert found(monkeypatch, Pretended((3, 2, 0), has_openmp=False)) == wanted
    installed.cache_clear()
    runtimes = iter([{"lib/libgomp.so.1"}, {"lib/libgomp.so.1", "lib/libiomp5.so"}])
    monkeypatch.setattr(module, "_openmp_runtimes", lambda: next(runtimes))
    assert found(monkeypatch, Pretended((3, 2, 0))) == wanted


def test_shared_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    library: Any = Pretended((3, 2, 0))
    assert found(monkeypatch, library).library is library


def test_openmp_runtimes_of_this_process() -> None:
    assert any("omp" in path for path in module._openmp_runtimes()) == Path("/proc").is_dir()
