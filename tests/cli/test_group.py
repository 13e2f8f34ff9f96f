"""The version, exit codes, and what an interrupt leaves and says."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import bnfuse
from tests.cli.support import TINY, help_of

if TYPE_CHECKING:
    from tests.cli.support import Run

ROOT = Path(__file__).resolve().parents[2]


def test_version(run: Run) -> None:
    outcome = run("--version")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"bnfuse {bnfuse.__version__}\n", "")


def test_help_names_the_exit_codes() -> None:
    text = " ".join(help_of().split())
    assert "Exit codes: 0 where all went well; 1 for an error, which stderr has in one" in text
    assert "2 for an unknown command or option; 130 after Ctrl-C." in text


def interrupted(*_: object, **__: object) -> None:
    """Stand in for what a user interrupts."""
    raise KeyboardInterrupt


@pytest.mark.parametrize("where", ["load_model", "explain_model"])
def test_interrupt_is_heard(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    monkeypatch.setattr(f"bnfuse.cli.app.{where}", interrupted)
    outcome = run("explain", TINY)
    assert (outcome.code, outcome.out) == (130, "")
    assert outcome.err.splitlines()[-1] == "interrupted: no file was left half-written."


# Whoever starts the tests in the background has them ignore interrupts, and a child inherits that.
HEEDING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from bnfuse.cli import main
main()
"""


def test_interrupt_leaves_no_file(folder: Path) -> None:
    command = [sys.executable, "-c", HEEDING, "optimize", "tinymodels:slow", "-o", "net.onnx"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while process.poll() is None and not (folder / "running").exists():  # made by the forward
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        assert len(list(folder.glob(".net.*.onnx"))) == 1
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines()[1:] == ["interrupted: no file was left half-written."]
    assert list(folder.glob("*.onnx")) + list(folder.glob(".*")) == []
