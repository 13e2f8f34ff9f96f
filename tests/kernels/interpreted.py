"""Triton's kernels run by its interpreter, on the CPU."""

from __future__ import annotations

import sys
from importlib.util import find_spec, module_from_spec
from typing import TYPE_CHECKING, Any

import pytest
import torch

from bnfuse.kernels import Activation, triton_probe
from bnfuse.kernels.packed import Packed
from bnfuse.kernels.triton_launch import Compiled
from tests.kernels.support import drawn

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from bnfuse.kernels.packed import Kernel

_MODULES = ("bnfuse.kernels.triton_activations", "bnfuse.kernels.triton_epilogue")
CPU = -1
"""What a tensor of the CPU says is the number of its GPU."""
SILU = Activation("silu")
X, OTHER = drawn(2, 8, 12, 11), drawn(2, 8, 12, 11, seed=1)
LAST = torch.channels_last
LAYOUTS = (torch.contiguous_format, LAST)
DTYPES = (torch.float32, torch.float16, torch.bfloat16)


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
    monkeypatch.setattr(torch._C, "_cuda_getDevice", lambda: CPU, raising=False)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: (9, 0))
    monkeypatch.setattr(torch, "device", lambda *_: "cpu")
    monkeypatch.setattr(triton_probe, "_KNOWN", {})
    triton_probe.lacks.cache_clear()
    yield
    triton_probe.lacks.cache_clear()


@pytest.fixture
def unless_gpu(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU stand for a GPU, and Triton's own launches count as cheap."""
    if request.node.get_closest_marker("gpu") is None:
        request.getfixturevalue("stand_in")
        monkeypatch.setattr(Compiled, "directly", Compiled.by_triton)


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """Return the list of all results that the kernel will have written over."""
    seen: list[Tensor] = []
    by_triton = Compiled.by_triton

    def noting(made: Compiled, sizes: Any) -> Any:
        launch = by_triton(made, sizes)

        def noted(tensors: tuple[Tensor, ...], pointers: tuple[int, ...]) -> None:
            seen.append(tensors[0])
            launch(tensors, pointers)

        return noted

    monkeypatch.setattr(triton_probe.Usable, "launch", lambda it, sizes: noting(it.compiled, sizes))
    return seen


def chosen(made: Any, x: Tensor) -> Kernel | None:
    """Return the kernel that a fused layer takes for an input."""
    kernel: Kernel | None = made.by_triton(Packed(made.weight, 0, 0), x)
    return kernel


def run(made: Any, *args: Tensor) -> Tensor:
    """Return what that kernel computes."""
    kernel = chosen(made, args[0])
    assert kernel is not None
    return kernel(args[0], made.bias, *args[1:])
