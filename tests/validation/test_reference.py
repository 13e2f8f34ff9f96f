"""Which reference a model gets, and how it says so."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.validation import memory, reference, runners
from tests.support import noise, sequential

if TYPE_CHECKING:
    from torch import Tensor


def blocks(dtype: torch.dtype = torch.float32) -> nn.Module:
    return sequential(
        nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.BatchNorm2d(4)
    ).to(dtype)


class Functional(nn.Module):
    """Reads the weights of a layer it does not call."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 3)

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.linear(x, self.layer.weight, self.layer.bias)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16, torch.float64])
def test_by_parts_gives_the_same_figures(dtype: torch.dtype) -> None:
    model, x = blocks(dtype), noise(2, 3, 8, 8).to(dtype)
    fused = bnfuse.optimize(model)
    whole, parts = (
        bnfuse.verify(model, fused, (x,), device="cpu", by_parts=by_parts)
        for by_parts in (False, True)
    )
    assert whole.passed
    assert whole.outputs == parts.outputs
    assert whole.reference == "unfused model in float64"
    assert parts.reference == "unfused model in float64, layer by layer"


def test_by_parts_finds_what_is_wrong() -> None:
    model, x = blocks(), noise(2, 3, 8, 8).float()
    fused = bnfuse.optimize(model)
    fused.get_parameter("3.weight").data[1] *= 1.01
    assert not bnfuse.verify(model, fused, (x,), by_parts=True).passed


def test_a_narrower_candidate_by_parts() -> None:
    model, x = blocks(), noise(2, 3, 8, 8).float()
    fused = bnfuse.optimize(model, dtype=torch.bfloat16)
    outcome = bnfuse.verify(model, fused, (x,), by_parts=True)
    assert outcome.passed
    assert outcome.reference == "unfused model in float64, layer by layer"


def test_a_model_that_cannot_be_run_by_parts_is_copied_and_says_so() -> None:
    model, x = Functional().eval(), noise(2, 3).float()
    outcome = bnfuse.verify(model, model, (x,), by_parts=True)
    assert outcome.passed
    assert outcome.reference == (
        "unfused model in float64, copied whole because NotByPartsError: "
        "layer.weight is read outside of its layer's call"
    )


@pytest.mark.parametrize(("room", "ending"), [(1 << 40, "float64"), (1, "layer by layer")])
def test_memory_decides(monkeypatch: pytest.MonkeyPatch, room: int, ending: str) -> None:
    monkeypatch.setattr(memory, "available", lambda place: room)
    model = blocks()
    outcome = bnfuse.verify(model, model, (noise(1, 3, 8, 8).float(),))
    assert outcome.reference.endswith(ending)


def test_no_float64_copy_is_made_by_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[Any] = []
    honest = runners.moved

    def noted(model: nn.Module, place: torch.device, dtype: torch.dtype | None) -> nn.Module:
        made.append(dtype)
        return honest(model, place, dtype)

    monkeypatch.setattr(reference, "moved", noted)
    model, x = blocks(), noise(1, 3, 8, 8).float()
    bnfuse.verify(model, model, (x,), by_parts=True)
    assert made
    assert torch.float64 not in made
    bnfuse.verify(model, model, (x,), by_parts=False)
    assert torch.float64 in made
