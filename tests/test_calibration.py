"""Rounding for the inputs that layers are given: which layers, and what it leaves alone."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import Tensor, fx, nn

import bnfuse
from bnfuse.affine import as_float64, round_all
from bnfuse.calibration import calibrate
from bnfuse.graph import Program
from tests.regions.support import One, traced
from tests.support import noise, ready

if TYPE_CHECKING:
    from bnfuse.validation.inputs import Arguments

HALVES = [torch.float16, torch.bfloat16]


def net(depth: int = 3, width: int = 24) -> nn.Sequential:
    """Return a model in float32 whose inputs have means above 0 from the second layer on."""
    layers: list[nn.Module] = []
    for place in range(depth):
        layers += [nn.Conv2d(width if place else 3, width, 3, padding=1), nn.ReLU()]
    return ready(nn.Sequential(*layers, nn.Flatten(2), nn.AdaptiveAvgPool1d(1))).float()


def rounded(model: nn.Module, dtype: torch.dtype = torch.float16) -> Program:
    """Return a program with weights that remember what they were rounded from."""
    round_all(model, dtype)
    return traced(model)[0]


def of(*args: Tensor) -> Any:
    """Return what gives the arguments of a call."""
    example: Arguments = (args, {})
    return lambda: example


def is_nearest(weight: Tensor) -> bool:
    """Whether each element is the nearest to what it was rounded from."""
    return torch.equal(weight.detach(), as_float64(weight).to(weight.dtype))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("with_example", [False, True])
def test_a_model_errs_far_less(dtype: torch.dtype, *, with_example: bool) -> None:
    model, x = net(), noise(8, 3, 48, 48)
    wanted = copy.deepcopy(model).double()(x)

    def error() -> Tensor:
        """Return what rounded weights alone do to the outputs."""
        difference = copy.deepcopy(model).double()(x) - wanted
        return difference.detach().square().mean()

    program = rounded(model, dtype)
    before = error()
    example = of(noise(2, 3, 48, 48, seed=9)) if with_example else lambda: None
    assert calibrate(program, example) == 3
    assert error() < before / 4


def test_what_was_not_rounded_stays() -> None:
    model = net().half()
    before = copy.deepcopy(model.state_dict())
    assert calibrate(traced(model)[0], of(noise(1, 3, 9, 9))) == 0
    assert calibrate(traced(net())[0], of(noise(1, 3, 9, 9))) == 0
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())


def test_weights_of_several_readers_stay_the_nearest() -> None:
    layer = nn.Linear(40, 40)
    model = ready(nn.Sequential(layer, nn.ReLU(), layer, nn.ReLU(), nn.Linear(40, 40))).float()
    program = rounded(model)
    assert calibrate(program, of(noise(3, 40))) == 1
    assert is_nearest(layer.weight)
    assert not is_nearest(model[4].weight)  # type: ignore[arg-type]  # that of a layer


class Counter(nn.Module):
    """A layer of the user's own that counts its calls."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(1)
        return x.relu()


class EachLayer(fx.Tracer):
    """Takes each module without children for one operation."""

    def is_leaf_module(self, m: nn.Module, module_qualified_name: str) -> bool:
        return not list(m.children())


def test_nobodys_own_code_is_run_but_on_the_example_and_in_a_copy() -> None:
    ran: list[int] = []
    counter = Counter()
    model = net()
    model[1] = counter
    round_all(model, torch.float16)
    program = Program(model, EachLayer().trace(model))
    handle = model[3].register_forward_hook(lambda *_: ran.append(1))
    assert calibrate(program, lambda: None) == 0
    assert (ran, counter.calls) == ([], [])
    assert calibrate(program, of(noise(1, 3, 9, 9))) == 3
    assert (ran, counter.calls) == ([1], [])
    handle.remove()
    assert calibrate(program, lambda: None) == 0
    model[1] = nn.ReLU()
    assert calibrate(program, lambda: None) == 3


class Shared(nn.ReLU):
    """A layer that refuses to be copied."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Shared:
        return self


class Odd(nn.ReLU):
    """A layer that refuses to be converted."""

    def _apply(self, *_: Any, **__: Any) -> Any:
        raise TypeError("not this one")


@pytest.mark.parametrize("layer", [Shared, Odd])
def test_a_model_that_cannot_be_copied_and_converted_keeps_the_nearest(
    layer: type[nn.Module],
) -> None:
    model = net()
    program = rounded(model)
    model[1] = layer()
    assert calibrate(program, of(noise(1, 3, 9, 9))) == 0
    model[1] = nn.ReLU()
    assert calibrate(program, of(noise(1, 3, 9, 9))) == 3


def test_no_random_numbers_are_drawn_and_no_input_is_written() -> None:
    model = One(lambda m, x: m.a(x.add_(1).relu_() + torch.rand(3)), a=nn.Linear(3, 4))
    program, x = rounded(model), noise(5, 3)
    state, before = torch.get_rng_state(), x.clone()
    assert calibrate(program, of(x)) == 1
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, before)


@pytest.mark.parametrize("odd", [torch.inf, torch.nan])
def test_inputs_that_are_not_finite_leave_the_nearest(odd: float) -> None:
    model = net(1)
    program = rounded(model)
    calibrate(program, of(torch.full((1, 3, 9, 9), odd)))
    assert is_nearest(model[0].weight)  # type: ignore[arg-type]  # that of a layer


def test_a_forward_that_cannot_run_leaves_the_nearest() -> None:
    model = net(1)
    assert calibrate(rounded(model), of(noise(1, 4, 9, 9))) == 0
    assert is_nearest(model[0].weight)  # type: ignore[arg-type]  # that of a layer


def test_a_weight_that_overflows_is_left_as_a_conversion_makes_it() -> None:
    model = net(1)
    with torch.no_grad():
        model.get_parameter("0.weight")[0, 0, 0, 0] = 1e5
    assert calibrate(rounded(model), of(noise(1, 3, 9, 9))) == 0
    assert is_nearest(model.get_parameter("0.weight"))


@pytest.mark.parametrize("dtype", HALVES)
def test_it_is_part_of_optimizing(dtype: torch.dtype) -> None:
    model = net()
    fused = bnfuse.optimize(model, dtype=dtype)
    nearest = copy.deepcopy(model).to(dtype).state_dict()
    assert not torch.equal(fused.get_parameter("2.weight"), nearest["2.weight"])
    again = bnfuse.optimize(model, dtype=dtype).state_dict()
    assert all(torch.equal(tensor, again[name]) for name, tensor in fused.state_dict().items())
