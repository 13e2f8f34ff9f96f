"""The benchmark of what ``verify`` sees: the channels it picks, the faults it makes."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

from benchmarks.sensitivity import FAULTS, as_table, convolutions, effects, key, picked
from tests.support import noise, sequential


def layers() -> nn.Sequential:
    """Two convolutions; the first one's channel 1 is dead behind its rectifier."""
    model = sequential(nn.Conv2d(3, 6, 3), nn.ReLU(), nn.Conv2d(6, 2, 1))
    model.get_parameter("0.bias").data[1] = -1e6
    return model


@torch.no_grad()
def test_dead_channels_have_no_effect_and_the_model_stays() -> None:
    model, x = layers(), noise(2, 3, 8, 8)
    before = copy.deepcopy(model.state_dict())
    moved = effects(model, convolutions(model)["0"], x)
    assert sorted(moved) == [0, 2, 3, 4, 5]
    assert all(effect > 0 for effect in moved.values())
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_a_quantile_of_the_effects_is_picked_and_the_next_stronger_one() -> None:
    moved = {7: 0.5, 1: 0.1, 4: 0.3, 9: 0.2, 2: 0.4}
    assert picked(moved, 0.5) == (4, 2)
    assert picked(moved, 0.0) == (1, 9)
    assert picked(moved, 1.0) == (2, 7)


@pytest.mark.parametrize("fault", FAULTS)
@torch.no_grad()
def test_a_fault_changes_what_it_says(fault: str) -> None:
    layer = convolutions(layers())["0"]
    before = copy.deepcopy(layer)
    FAULTS[fault](layer, (2, 4))
    assert layer.bias is not None
    assert before.bias is not None
    wanted_weight, wanted_bias = before.weight.clone(), before.bias.clone()
    if fault == "1% change":
        wanted_weight[2] *= 1.01
    elif fault == "swapped":
        for tensor, old in ((wanted_weight, before.weight), (wanted_bias, before.bias)):
            tensor[2], tensor[4] = old[4], old[2]
    else:
        wanted_bias[2] = 0.0
    assert torch.equal(layer.weight, wanted_weight)
    assert torch.equal(layer.bias, wanted_bias)
    pairs = zip(layer.parameters(), before.parameters(), strict=True)
    assert not all(torch.equal(now, then) for now, then in pairs)


def test_rows_are_told_apart_and_counted() -> None:
    honest = {"size": 64, "seed": 0, "input": 3, "fault": "none", "ratio": 0.2, "passed": True}
    fault = {"size": 64, "seed": 0, "rank": 0.5, "layer": "0", "fault": "swapped"}
    missed = fault | {"layer": "1", "ratio": 0.9, "passed": True}
    found = fault | {"ratio": 9.0, "passed": False}
    assert len({key(row) for row in (honest, missed, found)}) == 3
    assert key(found) == (64, 0, 0.5, "0", "swapped")
    table = as_table([honest, missed, found])
    assert list(table.columns[0].cells) == ["none", "swapped"]
    assert list(table.columns[3].cells) == ["1", "2"]
    assert list(table.columns[4].cells) == ["0", "1"]
