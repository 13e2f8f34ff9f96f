"""Watching a trace; what is noticed is tested with capture."""

from __future__ import annotations

import builtins
import contextlib
import threading

import pytest
import torch
from torch import nn

from bnfuse.capture.watch import CaptureError, Notices, watching, watching_state


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


def change(model: nn.Module, notices: Notices, *, prints: bool) -> None:
    """Set attributes of two modules while being watched, and print."""
    with watching(model, notices), watching_state(model, notices):
        for path in ("0", "1.0"):
            vars(model.get_submodule(path))["calls"] = 1
        if prints:
            with contextlib.suppress(CaptureError):
                print("x")  # noqa: T201 - what is watched for


@pytest.mark.parametrize("prints", [False, True])
def test_modules_that_change_are_told_where_that_is_all(prints: bool) -> None:
    model, notices = nn.Sequential(nn.ReLU(), nn.Sequential(nn.ReLU())), Notices()
    with pytest.raises(CaptureError) as raised:
        change(model, notices, prints=prints)
    assert len(notices) == (3 if prints else 2)
    assert raised.value.changed == (frozenset() if prints else {"0", "1.0"})
