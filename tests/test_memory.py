"""Memory that is free goes back to the system."""

from __future__ import annotations

import sys

import pytest

from bnfuse.memory import give_back


def test_it_can_be_asked_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    give_back()
    monkeypatch.setattr(sys, "platform", "elsewhere")
    give_back()
