"""Float64 memory that checks use again."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.regions import evaluate, scratch
from bnfuse.regions.scratch import Scratch
from tests.support import noise, relative_error, sequential


def test_what_is_taken_together_does_not_overlap() -> None:
    room = Scratch()
    one, other = (
        room.widened(tensor) for tensor in (noise(3, 5).float(), noise(7, seed=2).float())
    )
    assert torch.equal(one, noise(3, 5).float().double())
    assert torch.equal(other, noise(7, seed=2).float().double())
    room.clear()
    assert room.take(torch.Size([4])).data_ptr() == one.data_ptr()


def test_what_finds_no_room_has_memory_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch, "MOST", 8)
    room = Scratch()
    first, second = room.take(torch.Size([9])), room.take(torch.Size([9]))
    assert first.untyped_storage().data_ptr() != second.untyped_storage().data_ptr()


@pytest.mark.parametrize("most", [8, 1 << 22])
def test_large_weights_are_checked_alike(monkeypatch: pytest.MonkeyPatch, most: int) -> None:
    """Some rows after another, or in the scratch."""
    monkeypatch.setattr(evaluate, "FEW_ELEMENTS", 4)
    monkeypatch.setattr(evaluate, "MOST", most)
    layers = [nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 8, 1, groups=2)]
    model = sequential(*layers, nn.ReLU(), nn.Flatten(), nn.Linear(8 * 25, 6), nn.ReLU()).float()
    fused = bnfuse.optimize(model)
    made = bnfuse.report(fused)
    assert len(made.folded) == 1
    assert len(made.fused) == 3
    assert not made.undone
    x = noise(2, 3, 7, 7).float()
    assert relative_error(fused(x), model(x)) < 1e-5
