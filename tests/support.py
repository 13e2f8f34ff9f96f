"""What many tests need: random models worth folding, and an oracle that knows no folding."""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import nn

import bnfuse
from bnfuse.capture import Capture, capture
from bnfuse.zoo import randomize_statistics

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.graph import Program
    from bnfuse.report import Report

M = TypeVar("M", bound=nn.Module)


def ready(model: M, seed: int = 0) -> M:
    """Return the model in float64 and eval mode, with random weights and statistics."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    randomize_statistics(model, seed)
    return model.double().eval()


def sequential(*layers: nn.Module) -> nn.Sequential:
    """Return ``ready(nn.Sequential(...))``."""
    return ready(nn.Sequential(*layers))


def noise(*shape: int, seed: int = 1) -> Tensor:
    """Return float64 noise of both signs."""
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def relative_error(got: Any, wanted: Any) -> float:
    """Return the largest deviation relative to the largest value."""
    with torch.no_grad():
        return float((got - wanted).abs().max() / wanted.abs().max())


def optimized_checked(model: nn.Module, *inputs: Tensor, bound: float = 1e-12) -> Report:
    """Optimize, compare the outputs in float64, and return the report.

    Also compares the given model with what it was before, bit for bit.
    """
    before = copy.deepcopy(model.state_dict())
    fused = bnfuse.optimize(model)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert relative_error(fused(*inputs), model(*inputs)) <= bound
    return bnfuse.report(fused)


def program_of(model: nn.Module) -> Program:
    """Capture a model of which a graph can be made."""
    captured = capture(model)
    assert isinstance(captured, Capture), captured
    return captured.program
