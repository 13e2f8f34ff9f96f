"""A copy reads the caller's memory only where nobody could tell, and gives it back."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.capture import copy_model, lending
from bnfuse.capture.lending import Loan
from tests.support import sequential


@pytest.fixture(autouse=True)
def small_ones_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let tensors of a few elements be lent."""
    monkeypatch.setattr(lending, "_FEW", 0)


def lent(model: nn.Module, copied: nn.Module) -> list[str]:
    """Return the tensors of a copy that read the memory of the model."""
    pointers = {tensor.data_ptr() for tensor in model.state_dict().values()}
    return [name for name, t in copied.state_dict().items() if t.data_ptr() in pointers]


def blocks() -> nn.Sequential:
    return sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))


def test_all_is_lent_and_given_back() -> None:
    model = blocks()
    copied = copy_model(model).model
    loan = Loan(model, (copied,))
    assert lent(model, copied) == list(model.state_dict())
    loan.settle(copied)
    assert not lent(model, copied)
    for name, tensor in copied.state_dict().items():
        assert torch.equal(tensor, model.state_dict()[name])


def test_a_tensor_that_someone_else_knows_is_not_lent() -> None:
    model = blocks()
    copied = copy_model(model).model
    known = copied.get_parameter("0.weight")
    view = copied.get_buffer("1.running_mean").view(2, 2)
    Loan(model, (copied,))
    assert {"0.weight", "1.running_mean"}.isdisjoint(lent(model, copied))
    assert "0.bias" in lent(model, copied)
    assert known.shape == (4, 3, 3, 3)
    assert view.shape == (2, 2)


def test_a_tensor_that_differs_is_not_lent() -> None:
    model = blocks()
    copied = copy_model(model).model
    with torch.no_grad():
        copied.get_parameter("0.bias")[0] += 1
    Loan(model, (copied,))
    assert "0.bias" not in lent(model, copied)


def test_small_tensors_are_not_lent(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lending, "_FEW", 4)
    model = blocks()
    copied = copy_model(model).model
    loan = Loan(model, (copied,))
    assert lent(model, copied) == ["0.weight"]
    loan.settle(copied)
    assert not lent(model, copied)


def test_the_result_shares_nothing_with_the_model() -> None:
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(4, 2))
    assert not lent(model, bnfuse.optimize(model))
