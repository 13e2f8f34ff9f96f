"""The largest value inside a model, and outputs that are zero throughout."""

from __future__ import annotations

from typing import TYPE_CHECKING

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
