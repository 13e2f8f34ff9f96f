"""Memory that is free goes back to the system."""

from __future__ import annotations

import gc
import sys
import threading

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.memory import collecting_rarely, give_back


def test_it_can_be_asked_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    give_back()
    monkeypatch.setattr(sys, "platform", "elsewhere")
    give_back()


def test_garbage_is_looked_for_rarely_until_all_are_done() -> None:
    before, entered, done = gc.get_threshold(), threading.Event(), threading.Event()

    def work() -> None:
        with collecting_rarely():
            entered.set()
            done.wait()

    other = threading.Thread(target=work)
    with collecting_rarely():
        rare = gc.get_threshold()
        assert rare[0] > 100 * before[0]
        other.start()
        entered.wait()
    assert gc.get_threshold() == rare  # the other one is not done
    done.set()
    other.join()
    assert gc.get_threshold() == before
    assert gc.isenabled()


def test_what_the_caller_has_set_stays() -> None:
    before = gc.get_threshold()
    try:
        gc.set_threshold(0)
        with collecting_rarely():
            assert gc.get_threshold()[0] == 0
        with pytest.raises(ValueError, match="inside"), collecting_rarely():
            raise ValueError("inside")
        assert gc.get_threshold()[0] == 0
        gc.set_threshold(800)
        with collecting_rarely():
            gc.set_threshold(900)
        assert gc.get_threshold()[0] == 900
    finally:
        gc.set_threshold(*before)


def test_as_often_as_before_when_a_model_is_optimized() -> None:
    before = gc.get_threshold()
    bnfuse.optimize(
        nn.Sequential(nn.Conv2d(1, 1, 1), nn.BatchNorm2d(1)).eval(), (torch.ones(1, 1, 2, 2),)
    )
    assert gc.get_threshold() == before
