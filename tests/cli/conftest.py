"""The command line run in this process, on models of a module made for the test."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from bnfuse.cli import main
from tests.cli.support import Outcome

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

MODULE = """
import pathlib, time, torch
from torch import nn
from bnfuse.zoo import randomize_statistics

def tiny(width=3, seed=0):
    torch.manual_seed(seed)
    model = nn.Sequential(nn.Linear(4, width), nn.BatchNorm1d(width), nn.ReLU())
    return randomize_statistics(model, seed), (torch.randn(2, 4),)

def other():
    return tiny(seed=1)

def wide():
    return tiny(width=5)

def one_tensor():
    return tiny()[0], torch.randn(2, 4)

def no_example():
    return nn.Sequential(nn.Conv2d(3, 2, 1), nn.BatchNorm2d(2))

def wide_image():
    return nn.Sequential(nn.Conv2d(5, 2, 1), nn.BatchNorm2d(2))

def number():
    return 3

def three():
    return tiny()[0], 1, 2

def failing():
    raise ValueError("it is broken")

def needing(width):
    return tiny(width)

class Stubborn(nn.BatchNorm1d):
    def train(self, mode=True):
        return super().train(True)

def training():
    return Stubborn(4), (torch.randn(2, 4),)

class Slow(nn.Module):
    def forward(self, x):
        pathlib.Path("running").touch()
        time.sleep(3600)
        return x

def slow():
    return Slow(), (torch.randn(2, 4),)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Make the module ``tinymodels`` in an empty current folder."""
    (tmp_path / "tinymodels.py").write_text(MODULE)
    (tmp_path / "broken.py").write_text("def model(:\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("tinymodels", "broken"):
        sys.modules.pop(name, None)
    yield tmp_path
    for name in ("tinymodels", "broken"):
        sys.modules.pop(name, None)


@pytest.fixture
def run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Outcome]:
    """Return the function that runs a command."""

    def run_command(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["bnfuse", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            main()
        captured = capsys.readouterr()
        assert isinstance(ended.value.code, int)
        return Outcome(ended.value.code, captured.out, captured.err)

    return run_command
