"""Watching a trace; what is noticed is tested with capture."""

from __future__ import annotations

import builtins
import contextlib
import threading

import pytest
import torch
from torch import nn

from bnfuse.capture.watch import CaptureError, Notices, watching


def test_everything_is_as_it_was_afterwards() -> None:
    before = (builtins.print, torch.is_grad_enabled, nn.Module.train, torch.arange)
    with pytest.raises(ValueError, match="inside"), watching(nn.ReLU(), Notices()):
        raise ValueError("inside")
    assert (builtins.print, torch.is_grad_enabled, nn.Module.train, torch.arange) == before


def swallow(notices: Notices) -> None:
    """Print while being watched, and swallow the refusal."""
    with watching(nn.ReLU(), notices), contextlib.suppress(CaptureError):
        print("x")  # noqa: T201 - what is watched for


def test_what_was_noticed_is_raised_even_if_the_forward_swallowed_it() -> None:
    notices = Notices()
    with pytest.raises(CaptureError, match=r"^its forward prints$"):
        swallow(notices)
    assert notices == ["its forward prints"]


def test_other_threads_are_served(capsys: pytest.CaptureFixture[str]) -> None:
    answers: list[bool] = []

    def work() -> None:
        answers.append(torch.is_grad_enabled())
        print("from another thread")  # noqa: T201 - what is watched for

    with watching(nn.ReLU(), Notices()):
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
    assert answers == [True]
    assert "from another thread" in capsys.readouterr().out


def test_pytorch_itself_is_served() -> None:
    with watching(nn.ReLU(), Notices()), torch.no_grad():
        pass
