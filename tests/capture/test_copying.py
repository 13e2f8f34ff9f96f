"""The caller's model is copied, never touched."""

from __future__ import annotations

import re
import threading

import pytest
import torch
from torch import nn

from bnfuse.capture import copy_model
from bnfuse.errors import RequestError


def test_nothing_is_shared_and_flags_stay() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval()
    model[1].train()
    copied = copy_model(model)
    assert isinstance(copied, nn.Sequential)
    assert copied.get_parameter("0.weight").data_ptr() != model.get_parameter("0.weight").data_ptr()
    assert copied[1].training
    assert not copied[0].training
    assert model[0].weight.requires_grad
    assert not copied[0].weight.requires_grad


@pytest.mark.filterwarnings("ignore::FutureWarning")
def test_the_old_weight_norm_can_be_copied() -> None:
    """Its computed weight refuses ``copy.deepcopy``."""
    model = torch.nn.utils.weight_norm(nn.Linear(2, 2)).eval()
    x = torch.randn(1, 2)
    assert torch.equal(copy_model(model)(x), model(x))


def test_tied_parameters_stay_tied() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2))
    model[1].weight = model[0].weight
    copied = copy_model(model)
    assert isinstance(copied, nn.Sequential)
    assert copied[1].weight is copied[0].weight


def test_what_cannot_be_copied_is_named() -> None:
    model = nn.Linear(2, 2)
    model.lock = threading.Lock()  # type: ignore[assignment]  # an attribute like any other
    text = "Linear cannot be copied (cannot pickle '_thread.lock' object)"
    with pytest.raises(RequestError, match=f"^{re.escape(text)}"):
        copy_model(model)
