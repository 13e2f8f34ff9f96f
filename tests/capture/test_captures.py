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


class Counting(nn.Module):
    """A forward that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4))
        self.calls = 0

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        return self.block(x)


class Nested(nn.Module):
    """Three of them, one deep inside; it may itself count for one of them."""

    def __init__(self, *, counts: bool = False) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4))
        self.deep = nn.Sequential(nn.Sequential(Counting()), Counting())
        self.last = Counting()
        self.counts = counts

    def forward(self, x: Tensor) -> Tensor:
        if self.counts:
            vars(self.stem[0])["calls"] = 1
        return self.last(self.deep(self.stem(x)))


def traced_classes(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return a list that gets the class of each module that is traced from now on."""
    traced: list[str] = []
    honest = capture

    def noted(module: nn.Module, by_reference: Any, opaque: frozenset[str]) -> Capture | str:
        traced.append(type(module).__name__)
        return honest(module, by_reference, opaque)

    monkeypatch.setattr(captures, "capture", noted)
    return traced


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
    traced = traced_classes(monkeypatch)
    model, x = ready(Around()), noise(2, 3, 4, 4)
    fused = bnfuse.optimize(model)
    assert len(bnfuse.report(fused).folded) == 2
    assert traced == ["Around", "Sequential", "Opaque", "Sequential", "Around"]
    assert relative_error(fused(x), model(x)) < 1e-12


def test_parts_that_change_themselves_are_found_by_one_trace(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced = traced_classes(monkeypatch)
    model, x = ready(Nested()), noise(2, 3, 4, 4)
    fused = bnfuse.optimize(model)
    assert traced == ["Nested", *3 * ["Counting", "Sequential"], "Nested"]
    assert len(bnfuse.report(fused).folded) == 4
    wanted = model(x)
    assert relative_error(fused(x), wanted) < 1e-12
    assert [fused.get_submodule(name).calls for name in ("deep.0.0", "deep.1", "last")] == [1, 1, 1]


def test_a_part_that_others_change_is_looked_for_from_above(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    traced = traced_classes(monkeypatch)
    known, model = Captures(frozenset()), ready(Nested(counts=True))
    assert isinstance(known.take(model), str)  # around the three it changes the stem as well
    assert known.untraceable(model) == {"deep.0.0", "deep.1", "last"}
    assert traced.count("Nested") == 2
    assert relative_error(bnfuse.optimize(model)(x := noise(2, 3, 4, 4)), model(x)) < 1e-12
