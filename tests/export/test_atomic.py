"""A file is written whole or not at all."""

from __future__ import annotations

import os
import re
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from bnfuse.errors import ExportError
from bnfuse.export.atomic import atomic_file

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parents[2]
WRITER = """
import sys, time
from bnfuse.export.atomic import atomic_file
with atomic_file(sys.argv[1]) as temporary:
    temporary.write_text("half of the new te")
    print("writing", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """Return the path of a file that has content already."""
    path = tmp_path / "net.onnx"
    path.write_text("old")
    return path


@pytest.fixture
def restored_umask() -> Iterator[None]:
    """Put the process's umask back."""
    mask = os.umask(0)
    os.umask(mask)
    yield
    os.umask(mask)


def names_beside(target: Path) -> list[str]:
    """Return what stands in the folder of a file."""
    return sorted(path.name for path in target.parent.iterdir())


def refused(path: Path, wanted: str) -> None:
    """Check that entering fails with a message, and that the body is not reached."""
    entered = False
    with (
        pytest.raises(ExportError, match=f"^{re.escape(wanted)}$"),
        atomic_file(path),
    ):
        entered = True
    assert not entered


def write_half(path: Path, problem: BaseException) -> None:
    """Write half a file and raise."""
    with atomic_file(path) as temporary:
        temporary.write_text("half")
        assert temporary.exists()
        raise problem


def test_success_replaces_the_old_file(target: Path) -> None:
    with atomic_file(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.parent == target.parent
        assert temporary.suffix == ".onnx"
        assert temporary.name.startswith(".net.")
    assert target.read_text() == "new"
    assert names_beside(target) == ["net.onnx"]


def test_success_makes_a_new_file(tmp_path: Path) -> None:
    with atomic_file(str(tmp_path / "new.json")) as temporary:
        temporary.write_bytes(b"\x00\xff")
    assert (tmp_path / "new.json").read_bytes() == b"\x00\xff"
    assert names_beside(tmp_path / "new.json") == ["new.json"]


def test_path_without_a_folder_is_in_the_current_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with atomic_file("net.onnx") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "net.onnx").read_text() == "new"


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt, SystemExit])
def test_exception_inside_leaves_everything_as_it_was(
    target: Path, problem: type[BaseException]
) -> None:
    with pytest.raises(problem, match=r"^in the middle$"):
        write_half(target, problem("in the middle"))
    assert target.read_text() == "old"
    assert names_beside(target) == ["net.onnx"]


def test_interrupt_as_the_temporary_file_is_made_leaves_none(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = []

    def interrupted(_: int) -> None:
        made.extend(names_beside(target))
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(os, "close", interrupted)
        with pytest.raises(KeyboardInterrupt):
            write_half(target, ValueError("not reached"))
    assert len(made) == 2
    assert names_beside(target) == ["net.onnx"]
    assert target.read_text() == "old"


def test_exception_inside_leaves_no_file_where_none_was(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"^no$"):
        write_half(tmp_path / "net.onnx", ValueError("no"))
    assert list(tmp_path.iterdir()) == []


def test_system_error_inside_says_which_file(target: Path) -> None:
    wanted = f"{target} could not be written: No space left on device."
    with pytest.raises(ExportError, match=f"^{re.escape(wanted)}$"):
        write_half(target, OSError(28, "No space left on device"))
    assert target.read_text() == "old"
    assert names_beside(target) == ["net.onnx"]


def test_missing_folder_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "net.onnx"
    refused(
        path,
        f"{path} cannot be written (No such file or directory): "
        "choose a path in a folder that exists and is writable.",
    )
    assert list(tmp_path.iterdir()) == []


def test_path_below_a_file_is_refused(target: Path) -> None:
    path = target / "net.onnx"
    refused(
        path,
        f"{path} cannot be written (Not a directory): "
        "choose a path in a folder that exists and is writable.",
    )
    assert target.read_text() == "old"


def test_folder_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "net.onnx"
    folder.mkdir()
    refused(folder, f"{folder} is a folder: name the file to write.")
    assert list(tmp_path.rglob("*")) == [folder]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_folder_without_permission_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    path = tmp_path / "net.onnx"
    refused(
        path,
        f"{path} cannot be written (Permission denied): "
        "choose a path in a folder that exists and is writable.",
    )


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
@pytest.mark.usefixtures("restored_umask")
def test_mode_follows_the_umask(target: Path, mask: int, mode: int) -> None:
    os.umask(mask)
    with atomic_file(target) as temporary:
        temporary.write_text("new")
    assert stat.S_IMODE(target.stat().st_mode) == mode
    assert os.umask(mask) == mask


def test_killed_process_leaves_the_old_file(target: Path) -> None:
    writer = subprocess.Popen(
        [sys.executable, "-c", WRITER, str(target)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    with writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "writing\n"
        writer.send_signal(signal.SIGKILL)
        assert writer.wait(timeout=30) == -signal.SIGKILL
    assert target.read_text() == "old"
    with atomic_file(target) as temporary:  # what the killed process left is in nobody's way
        temporary.write_text("new")
    assert target.read_text() == "new"


def test_two_writers_do_not_meet(target: Path) -> None:
    with atomic_file(target) as first, atomic_file(target) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert target.read_text() == "first"  # the outer one is done last
    assert names_beside(target) == ["net.onnx"]


def test_file_is_as_new_as_its_writing(target: Path) -> None:
    os.utime(target, (1, 1))
    start = time.time()
    with atomic_file(target) as temporary:
        temporary.write_text("new")
    assert target.stat().st_mtime >= start - 2
