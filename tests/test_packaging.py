"""What is built from the tree works where the tree is not."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
CACHES = ("__pycache__", ".*", "*.egg-info", "build", "dist", "*.onnx")
PASSES = {path.name for path in (ROOT / "passes").glob("*.py")}
WHERE = "import bnfuse, bnfuse.passes; print(bnfuse.__file__); print(bnfuse.passes.__file__)"


def run(*command: str, folder: Path, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    """Run Python in a folder, with one more folder to import from."""
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    done = subprocess.run(
        [sys.executable, *command], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build a wheel and an sdist from a copy of the tree, and return their folder."""
    top = tmp_path_factory.mktemp("packaging")
    tree, dist = top / "tree", top / "dist"
    shutil.copytree(ROOT, tree, symlinks=True, ignore=shutil.ignore_patterns(*CACHES))
    assert (tree / "bnfuse" / "passes").is_symlink()
    run("-m", "build", "--wheel", "--sdist", "--no-isolation", "-o", str(dist), folder=tree)
    return dist


def test_two_archives_are_built(built: Path) -> None:
    names = sorted(path.name for path in built.iterdir())
    assert names == ["bnfuse-0.1.0-py3-none-any.whl", "bnfuse-0.1.0.tar.gz"]


def test_wheel_holds_the_passes_as_files(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        entries = {info.filename: info for info in archive.infolist()}
    assert {name for name in entries if name.startswith("bnfuse/passes/")} == {
        f"bnfuse/passes/{name}" for name in PASSES
    }
    assert all(entries[f"bnfuse/passes/{name}"].file_size > 0 for name in PASSES)
    assert [name for name, info in entries.items() if info.external_attr >> 28 == 0o12] == []
    assert "bnfuse/py.typed" in entries
    assert any(name.endswith("/licenses/LICENSE") for name in entries)
    assert {name.split("/")[0] for name in entries} == {"bnfuse", "bnfuse-0.1.0.dist-info"}


def test_wheel_holds_every_module(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        packed = {name for name in archive.namelist() if name.endswith(".py")}
    modules = {path.relative_to(ROOT).as_posix() for path in (ROOT / "bnfuse").rglob("*.py")}
    assert packed == modules | {f"bnfuse/passes/{name}" for name in PASSES}


def test_sdist_holds_the_passes_as_files(built: Path) -> None:
    (sdist,) = built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        members = {member.name.partition("/")[2]: member for member in archive.getmembers()}
    assert {f"passes/{name}" for name in PASSES} <= set(members)
    assert all(members[f"passes/{name}"].isfile() for name in PASSES)
    assert {"pyproject.toml", "LICENSE", "bnfuse/py.typed"} <= set(members)


@pytest.mark.parametrize("pattern", ["*.whl", "*.tar.gz"])
def test_archive_installs_and_runs(built: Path, tmp_path: Path, pattern: str) -> None:
    (archive,) = built.glob(pattern)
    target, elsewhere = tmp_path / "target", tmp_path / "elsewhere"
    elsewhere.mkdir()
    options = ("--no-deps", "--no-build-isolation", "--no-index", "--target", str(target))
    run("-m", "pip", "install", *options, str(archive), folder=elsewhere)
    where = run("-c", WHERE, folder=elsewhere, path=target).stdout.split()
    assert where == [
        str(target / "bnfuse" / "__init__.py"),
        str(target / "bnfuse" / "passes" / "__init__.py"),
    ]
    assert not (target / "bnfuse" / "passes").is_symlink()
    arguments = ("-m", "bnfuse", "explain", "timm:test_resnet")
    explained = run(*arguments, folder=elsewhere, path=target)
    assert explained.stdout.startswith("ResNet: 15 of 15 batch norms folded.\n")
    assert list(elsewhere.iterdir()) == []
