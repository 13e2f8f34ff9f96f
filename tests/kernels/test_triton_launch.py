"""How much a launch does, and what the two ways to launch are given; nothing is compiled."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from bnfuse.kernels import Activation, triton_launch
from bnfuse.kernels.triton_launch import Compiled, Sizes, Variant, sizes, width
from tests.kernels.interpreted import CPU, interpreter, stand_in

__all__ = ["interpreter", "stand_in"]
KEY = Variant(3, torch.float16, Activation("relu"), "", True, False, 8)


class Launcher:
    """What Triton compiles, noting what it is called with."""

    function, packed_metadata = "function", "metadata"

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []

    def run(self, *args: object) -> None:
        self.calls.append(args)


def test_groups_lie_in_one_period() -> None:
    for period in range(1, 65):
        for itemsize in (2, 4):
            together = width(period, itemsize)
            assert period % together == 0
            assert together * itemsize in (2, 4, 8, 16)
    assert (width(24, 2), width(24, 4), width(12, 4), width(49, 2)) == (8, 4, 4, 1)


def test_every_element_is_in_a_program() -> None:
    elements = triton_launch.ELEMENTS
    assert sizes(KEY, 8, 8, 2) == Sizes(1, 1, 1, 2)
    assert sizes(KEY, elements, 64, 2) == Sizes(1, elements // 8, 8, 2)
    assert sizes(KEY, elements + 8, 64, 2).programs == 2


def test_a_direct_launch_is_on_the_current_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch._C, "_cuda_getCurrentRawStream", lambda device: 100 + device, False)
    kernel = Launcher()
    made = Compiled(None, kernel, ("formula", ""), (0.5, 2.0), 3)
    made.directly(Sizes(7, 50, 4, 16))((), (11, 12, 13))
    head = (7, 1, 1, 103, "function", "metadata", None, None, None)
    assert kernel.calls == [(*head, 11, 12, 13, 50, 4, 16, 0.5, 2.0, "formula", "")]


def test_triton_is_given_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[tuple[Any, ...]] = []

    class Function:
        def __getitem__(self, grid: tuple[int]) -> Any:
            return lambda *args, **options: seen.append((grid, args, options))

    tensors = (torch.empty(1),) * 3
    made = Compiled(Function(), None, ("formula", ""), (0.5, 2.0), 3)
    made.by_triton(Sizes(7, 50, 4, 16))(tensors, ())
    options = {"num_warps": triton_launch.WARPS}
    assert seen == [((7,), (*tensors, 50, 4, 16, 0.5, 2.0, "formula", ""), options)]


def test_numbers_and_constants(stand_in: None) -> None:
    made = triton_launch.compiled(KEY._replace(device=CPU, activation=Activation("relu6")))
    assert made.numbers == (0.0, 0.0)
    assert made.constants[1:] == ("", True, False, 8, triton_launch.ELEMENTS // 8)
    bounds = Activation("hardtanh", (-1.0, 2.0))
    assert triton_launch.compiled(KEY._replace(device=CPU, activation=bounds)).numbers == (-1, 2)
