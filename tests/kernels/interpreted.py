"""Triton's kernels run by its interpreter, on the CPU."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING

import pytest
import torch

from bnfuse.kernels import triton_probe

if TYPE_CHECKING:
    from collections.abc import Iterator

_MODULES = ("bnfuse.kernels.triton_activations", "bnfuse.kernels.triton_epilogue")
CPU = -1
"""What a tensor of the CPU says is the number of its GPU."""


@pytest.fixture
def interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    """Load the kernels anew, for the interpreter: Triton asks for it when it decorates them."""
    pytest.importorskip("triton")
    for name in _MODULES:
        spec = find_spec(name)
        assert spec is not None
        assert spec.loader is not None
        module = module_from_spec(spec)
        monkeypatch.setitem(sys.modules, name, module)
        with monkeypatch.context() as patch:
            patch.setenv("TRITON_INTERPRET", "1")
            spec.loader.exec_module(module)


@pytest.fixture
def stand_in(interpreter: None, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let the CPU stand for a GPU."""
    monkeypatch.setattr(torch.cuda, "current_device", lambda: CPU)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch, "device", lambda *_: "cpu")
    monkeypatch.setattr(triton_probe, "_KNOWN", {})
    triton_probe.lacks.cache_clear()
    yield
    triton_probe.lacks.cache_clear()
