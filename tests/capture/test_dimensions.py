"""A batch norm's own check of ranks becomes part of the graph."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import bnfuse
from tests.support import noise, program_of, ready, relative_error


class Scaled(nn.BatchNorm2d):
    """Has a forward of its own around the one it inherits."""

    def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as in torch
        return super().forward(input) * 2


def test_a_subclass_with_a_forward_of_its_own_does_not_cost_the_model() -> None:
    model = ready(nn.Sequential(nn.Conv2d(3, 4, 1), Scaled(4), nn.Conv2d(4, 4, 1)))
    fused = bnfuse.optimize(model)
    assert isinstance(fused, torch.fx.GraphModule)
    assert len(bnfuse.report(fused).folded) == 1
    x = noise(1, 3, 4, 4)
    assert relative_error(fused(x), model(x)) < 1e-12
    with pytest.raises(ValueError, match=r"^expected 4D input \(got 3D input\)$"):
        fused(x[0])


@pytest.mark.parametrize("layer", [nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d])
def test_a_norm_alone_is_captured(layer: type[nn.BatchNorm2d]) -> None:
    graph = program_of(layer(3).eval()).graph
    assert "check_rank" in str(graph)


def test_the_check_itself_is_as_it_was_afterwards() -> None:
    before = nn.BatchNorm2d._check_input_dim
    program_of(nn.BatchNorm2d(3).eval())
    assert nn.BatchNorm2d._check_input_dim is before
    with pytest.raises(ValueError, match="expected 4D input"):
        nn.BatchNorm2d(3)(torch.zeros(2, 3))
