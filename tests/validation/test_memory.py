"""How much memory there is, and whether two copies of a model fit into it."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from bnfuse.validation import memory

if TYPE_CHECKING:
    from pathlib import Path

CPU = torch.device("cpu")


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand in for the files in which Linux tells, and return their folder."""
    (tmp_path / "meminfo").write_text("MemTotal:  900 kB\nMemAvailable:  500 kB\nBuffers: 1 kB\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_GROUP", tmp_path)
    return tmp_path


def test_this_machine_has_memory() -> None:
    found = memory.available(CPU)
    assert found is None or found > 1 << 20


def test_what_linux_counts_as_available(machine: Path) -> None:
    assert memory.available(CPU) == 500 * 1024


@pytest.mark.parametrize(
    ("limit", "used", "wanted"),
    [("300000", "100000", 200_000), ("max", "100000", 512_000), ("100", "200", 0)],
)
def test_a_container_may_have_less(machine: Path, limit: str, used: str, wanted: int) -> None:
    (machine / "memory.max").write_text(f"{limit}\n")
    (machine / "memory.current").write_text(f"{used}\n")
    assert memory.available(CPU) == wanted


@pytest.mark.parametrize("text", [None, "", "MemAvailable:\n", "MemAvailable: many kB\n"])
def test_other_systems_are_asked_otherwise(
    machine: Path, monkeypatch: pytest.MonkeyPatch, text: str | None
) -> None:
    if text is None:
        (machine / "meminfo").unlink()
    else:
        (machine / "meminfo").write_text(text)
    monkeypatch.setattr(os, "sysconf", {"SC_AVPHYS_PAGES": 7, "SC_PAGE_SIZE": 10}.get)
    assert memory.available(CPU) == 70
    monkeypatch.delattr(os, "sysconf")
    assert memory.available(CPU) is None


def test_other_devices_do_not_tell() -> None:
    assert memory.available(torch.device("meta")) is None


@pytest.mark.parametrize(
    ("dtype", "bytes_of_both"),
    [(torch.float32, 100 + 200), (torch.bfloat16, 50 + 200), (torch.float64, 200 + 200)],
)
def test_two_copies_have_to_fit(
    monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype, bytes_of_both: int
) -> None:
    model = nn.Linear(4, 5).to(dtype)
    model.register_buffer("counter", torch.zeros(0, dtype=torch.int64))
    for room, wanted in ((bytes_of_both, False), (bytes_of_both - 1, True), (None, False)):
        monkeypatch.setattr(memory, "available", lambda place, room=room: room)
        assert memory.is_too_large(model, CPU) is wanted
