"""Each module is traced once, and who takes a capture may change it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from torch import Tensor, nn

import bnfuse
from bnfuse.capture import Capture, capture, captures
from bnfuse.capture.captures import Captures
from bnfuse.capture.copying import copy_tree
from tests.support import noise, ready, relative_error

if TYPE_CHECKING:
    from typing import Any


class Opaque(nn.Module):
    """A forward that branches on data."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))

    def forward(self, x: Tensor) -> Tensor:
        return self.block(x) if x.sum() > 0 else self.block(-x)


class Around(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.inner = Opaque()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(self.stem(x))


def test_who_takes_a_capture_has_it_alone() -> None:
    known = Captures(frozenset())
    model = ready(nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)))
    one, other = known.take(model), known.take(model)
    assert isinstance(one, Capture)
    assert isinstance(other, Capture)
    assert one.program.graph is not other.program.graph


def test_what_is_known_of_a_module_is_known_of_its_copy() -> None:
    known = Captures(frozenset())
    model = ready(Around())
    assert isinstance(known.take(model), Capture)  # around what no trace can follow
    assert known.untraceable(model) == {"inner"}
    copied = copy_tree(model)
    known.note_copy(model, copied)
    assert known.untraceable(copied) == {"inner"}


def test_no_forward_is_traced_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    traced: list[str] = []
    honest = capture

    def noted(module: nn.Module, by_reference: Any, opaque: frozenset[str]) -> Capture | str:
        traced.append(type(module).__name__)
        return honest(module, by_reference, opaque)

    monkeypatch.setattr(captures, "capture", noted)
    model, x = ready(Around()), noise(2, 3, 4, 4)
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 2
    assert traced == ["Around", "Sequential", "Opaque", "Sequential", "Around"]
    assert relative_error(fused(x), model(x)) < 1e-12
