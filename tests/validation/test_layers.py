"""Where errors grow, layer by layer, and that it shows."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import RequestError
from bnfuse.validation.layers import differs_on_most, is_rescaled
from bnfuse.zoo import load_model
from tests.support import noise, ready, sequential

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.validation import Verification

NOISE = 1e-9


def blocks() -> nn.Sequential:
    return sequential(
        nn.Conv2d(3, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 8, 3),
        nn.BatchNorm2d(8),
        nn.ReLU(inplace=True),
        nn.Conv2d(8, 4, 1),
    )


def x32(*shape: int) -> Tensor:
    return noise(*shape).float()


def layered(model: nn.Module, fused: nn.Module, x: Tensor, **options: Any) -> Verification:
    return bnfuse.verify(model, fused, (x,), device="cpu", per_layer=True, **options)


def pairs(outcome: Verification) -> list[tuple[str, str]]:
    return [(row.name, row.counterpart) for row in outcome.layers]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("by_parts", [False, True])
def test_an_honest_result_has_a_row_for_each_layer(dtype: torch.dtype, by_parts: bool) -> None:
    model, x = blocks().to(dtype), noise(2, 3, 9, 9).to(dtype)
    outcome = layered(model, bnfuse.optimize(model), x, by_parts=by_parts)
    assert pairs(outcome) == [("0", "1"), ("2", "2"), ("3", "4"), ("5", "5"), ("6", "6")]
    assert all(row.passed for row in outcome.layers)
    assert all(row.max_abs_error > 0 for row in outcome.layers)
    assert outcome.left_out == 2  # the two convolutions before their norms
    assert outcome.first_wrong is None
    assert outcome.passed


def test_rows_are_asked_for() -> None:
    model, x = blocks().float(), x32(2, 3, 9, 9)
    outcome = bnfuse.verify(model, bnfuse.optimize(model), (x,))
    assert outcome.layers == ()
    assert "layers" not in outcome.to_dict()


@pytest.mark.parametrize(("layer", "wrong"), [("0", 5), ("3", 3), ("6", 1)])
@pytest.mark.parametrize("by", [1.01, 0.0])
def test_a_fault_shows_in_its_layer_and_behind(layer: str, wrong: int, by: float) -> None:
    model, x = blocks().float(), x32(2, 3, 9, 9)
    fused = bnfuse.optimize(model)
    fused.get_parameter(f"{layer}.weight").data[1] *= by
    outcome = layered(model, fused, x)
    assert outcome.first_wrong is not None
    assert outcome.first_wrong.name == layer
    assert outcome.headline.endswith(f"; the first layer that is wrong is {layer}")
    assert [row.passed for row in outcome.layers] == [True] * (5 - wrong) + [False] * wrong


class Scaled(nn.Module):
    """A norm behind a sum: its affine moves up into both arms, past an activation in one."""

    def __init__(self) -> None:
        super().__init__()
        self.left, self.right = nn.Conv2d(3, 8, 1), nn.Conv2d(3, 8, 1)
        self.norm, self.relu = nn.BatchNorm2d(8), nn.ReLU()
        self.last = nn.Conv2d(8, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.relu(self.norm(self.left(x) + self.right(x.abs()))))


def test_scaled_values_are_left_out() -> None:
    model, x = ready(Scaled()).float(), x32(2, 3, 9, 9)
    fused = bnfuse.optimize(model)
    outcome = layered(model, fused, x)
    assert outcome.passed
    assert pairs(outcome) == [("relu", "relu"), ("last", "last")]
    assert outcome.left_out == 3
    fused.get_parameter("last.weight").data[1] *= 1.01
    outcome = layered(model, fused, x)
    assert not outcome.passed
    assert pairs(outcome) == [("relu", "relu"), ("last", "last")]
    assert outcome.first_wrong is not None
    assert outcome.first_wrong.name == "last"


class Twice(nn.Module):
    """Calls a layer twice, the second time with a norm behind it."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(self.conv(x).tanh()))


def test_a_layer_called_several_times_has_a_row_for_each_call() -> None:
    model, x = ready(Twice()).float(), x32(2, 3, 5, 5)
    outcome = layered(model, model, x)
    assert pairs(outcome) == [("conv",) * 2, ("conv, call 2",) * 2, ("norm",) * 2]
    folded = layered(model, bnfuse.optimize(model), x)
    assert folded.passed
    assert ("conv", "conv") in pairs(folded)
    assert all(row.passed for row in folded.layers)


class Branching(nn.Module):
    """A forward no trace can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), nn.ReLU())
        self.last = nn.Conv2d(3, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.block(x)) if x.sum() > -1e9 else x


def test_models_that_are_no_graphs_are_seen_as_well() -> None:
    model, x = ready(Branching()).float(), x32(2, 3, 5, 5)
    fused = bnfuse.optimize(model)
    assert not isinstance(fused, torch.fx.GraphModule)
    outcome = layered(model, fused, x)
    assert pairs(outcome) == [
        ("block.0", "block.1"), ("block.2", "block.2"), ("block", "block"), ("last", "last"),
    ]  # fmt: skip
    assert all(row.passed for row in outcome.layers)
    assert outcome.left_out == 1


@pytest.mark.parametrize("name", ["timm:repvgg_a0", "timm:test_resnet", "timm:levit_128s"])
def test_networks(name: str) -> None:
    loaded = load_model(name, shapes=() if "levit" in name else ("1x3x64x64",))
    outcome = layered(loaded.model, bnfuse.optimize(loaded.model), loaded.example_inputs[0])
    assert outcome.passed
    assert len(outcome.layers) >= 20
    assert all(row.passed for row in outcome.layers)


def test_a_file_has_no_layers_to_see(tmp_path: Any) -> None:
    model, x = blocks().float(), x32(2, 3, 9, 9)
    path = bnfuse.export_onnx(model, tmp_path / "net.onnx", (x,), verify=False).path
    text = (
        "per_layer compares the layers of a module, and net.onnx is a file: "
        "pass what bnfuse.optimize returned."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(text)}$"):
        bnfuse.verify(model, path, (x,), device="cpu", per_layer=True)


def test_the_text_and_the_json_have_the_rows() -> None:
    model, x = blocks().float(), x32(2, 3, 9, 9)
    outcome = layered(model, bnfuse.optimize(model), x)
    lines = str(outcome).splitlines()
    assert lines[-1] == "2 values of the unfused model's layers have no counterpart"
    assert [line.split()[0] for line in lines[-7:-1]] == ["layer", "0", "2", "3", "5", "6"]
    made = outcome.to_dict()
    assert [row["name"] for row in made["layers"]] == ["0", "2", "3", "5", "6"]
    assert made["left_out"] == 2
    row = outcome.layers[0]
    assert row.ratio == row.max_abs_error / row.own_error


def channels(*factors: float, shift: float = 0.0) -> Tensor:
    return noise(2, 4, 5, 5) * torch.tensor(factors).double().reshape(1, -1, 1, 1) + shift


@pytest.mark.parametrize(
    ("value", "differs", "rescaled"),
    [
        (channels(1, 1, 1, 1), False, True),
        (channels(1, 1, 1, 1.01), False, True),
        (channels(1, 1, 2, 2), False, True),
        (channels(1, -1, 2, 3), True, True),
        (channels(1, 1, 1, 1, shift=1.0), True, True),
        (channels(0, 0, 0, 0), True, True),
        (noise(2, 4, 5, 5, seed=7), True, False),
        (noise(2, 4, 5, 5).roll(1, 1), True, False),
    ],
)
def test_values_that_are_others_on_most_channels(
    value: Tensor, differs: bool, rescaled: bool
) -> None:
    exact = noise(2, 4, 5, 5)
    assert differs_on_most(value, exact, NOISE) is differs
    assert is_rescaled(value, exact, NOISE) is rescaled
    assert not differs_on_most(value.flatten(), exact.flatten(), NOISE)
    assert not is_rescaled(value.flatten(), exact.flatten(), NOISE)
