"""The largest value inside a model, and outputs that are zero throughout."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.validation.inner import largest_inner_value
from bnfuse.validation.runners import ModuleRun
from tests.support import noise

if TYPE_CHECKING:
    from bnfuse.validation.inputs import Arguments


class Dead(nn.Module):
    """Nothing comes through its relu: the output is exactly zero."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.known = nn.Linear(4, 4), nn.BatchNorm1d(4)  # so two dimensions are known
        self.norm, self.last = nn.BatchNorm1d(4), nn.Linear(4, 50, bias=False)
        self.norm.bias.data = torch.tensor([-3.1, -4.3, -5.7, -6.9])
        self.norm.weight.data = torch.tensor([0.7, 1.3, 0.9, 1.1])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.last(self.norm(self.known(self.first(x)).tanh()).relu())


class Masks(nn.Module):
    """Writes the largest finite number, as masks do, and an infinity from a layer."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = nn.Linear(2, 2, bias=False), nn.Linear(2, 2, bias=False)
        self.first.weight.data = torch.tensor([[3.0, 0.0], [0.0, -5.0]])
        self.second.weight.data = torch.tensor([[torch.inf, 0.0], [0.0, 1.0]])

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        hidden = self.first(x)
        return self.second(hidden) + torch.full_like(x, torch.finfo(x.dtype).max)


def test_what_layers_compute_counts_and_nothing_else() -> None:
    sets: list[Arguments] = [
        ((torch.tensor([[1.0, 1.0]]),), {}),
        ((torch.tensor([[1.0, 2.0]]),), {}),
    ]
    assert largest_inner_value(ModuleRun(Masks()), sets, 0) == 10.0
    norm = nn.BatchNorm1d(2).eval()
    norm.bias.data += 7.0
    assert largest_inner_value(ModuleRun(norm), [((torch.zeros(3, 2),), {})], 0) == 7.0
    assert largest_inner_value(ModuleRun(nn.ReLU()), sets, 0) == 0.0


def test_an_output_of_zeros_is_measured_by_the_values_inside() -> None:
    model, x = Dead().eval(), noise(2, 4)
    for dtype in (torch.float32, torch.float64):
        model, x = model.to(dtype), x.to(dtype)
        fused = bnfuse.optimize(model, (x,))
        assert [row.site for row in bnfuse.report(fused).folded] == ["known", "norm"]
        assert not model(x).any()
        assert fused(x).any()  # a sum that cancels, but for rounding
        outcome = bnfuse.verify(model, fused, (x,))
        assert outcome.passed
        assert 0 < outcome.outputs[0].max_abs_error <= outcome.outputs[0].tolerance
        for parameter in fused.parameters():
            parameter.data += 1e-3
        assert not bnfuse.verify(model, fused, (x,)).passed


def test_zeros_of_a_model_without_layers_are_to_be_met() -> None:
    zeros, others = (nn.Threshold(9.0, value).eval() for value in (0.0, 1e-9))
    assert bnfuse.verify(zeros, zeros, (torch.ones(2),)).passed
    assert not bnfuse.verify(zeros, others, (torch.ones(2),)).passed


@pytest.mark.parametrize(
    ("dtype", "error", "passes"),
    [
        (torch.float32, 3e-7, True),
        (torch.float32, 1e-5, False),
        (torch.bfloat16, 0.004, True),
        (torch.bfloat16, 0.1, False),
    ],
)
def test_what_zeros_may_deviate_by(dtype: torch.dtype, error: float, passes: bool) -> None:
    """Where the largest value inside is 1: by some roundings of it, and by a hundredth at most."""

    def made(value: float) -> nn.Module:
        first = nn.Linear(1, 1, bias=False)
        first.weight.data.fill_(1.0)
        return nn.Sequential(first, nn.Threshold(9.0, value)).to(dtype).eval()

    x = torch.ones(1, 1, dtype=dtype)
    assert bnfuse.verify(made(0.0), made(error), (x,), seed=1).passed is passes


class Flags(nn.Module):
    """Returns whether something is larger than it can be."""

    def __init__(self, bound: float) -> None:
        super().__init__()
        self.layer, self.bound = nn.Linear(2, 2), bound

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(1e4 * x) > self.bound


def test_flags_are_no_numbers_that_round() -> None:
    never, always = Flags(1e30).half().eval(), Flags(-1e30).half().eval()
    x = torch.ones(1, 2, dtype=torch.float16)
    assert bnfuse.verify(never, never, (x,)).passed
    assert not bnfuse.verify(never, always, (x,)).passed


def test_what_cannot_be_watched_is_wrong_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> float:
        raise NotImplementedError("aten::abs of a class of the user's")

    model, x = Dead().eval(), torch.ones(2, 4)
    fused = bnfuse.optimize(model)
    assert bnfuse.verify(model, fused, (x,)).passed
    module = sys.modules["bnfuse.validation.verify"]  # its function has the name of the module
    monkeypatch.setattr(module, "largest_inner_value", fails)
    assert not bnfuse.verify(model, fused, (x,)).passed


def test_a_mask_that_a_product_adds_is_no_measure() -> None:
    class Added(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.addmm(torch.full_like(x, torch.finfo(x.dtype).min), x, x)

    sets: list[Arguments] = [((torch.ones(2, 2),), {})]
    assert largest_inner_value(ModuleRun(Added()), sets, 0) == 0.0
