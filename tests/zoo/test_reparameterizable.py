"""Models that timm can reparameterize: no more layers are left than it leaves."""

from __future__ import annotations

import copy

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.zoo import randomize_statistics
from tests.support import relative_error

timm = pytest.importorskip("timm")
COUNTED = (nn.Conv2d, nn.BatchNorm2d)


def layers_called(fused: nn.Module) -> int:
    graph = fused.graph
    assert isinstance(graph, torch.fx.Graph)
    called = graph.find_nodes(op="call_module")
    return sum(isinstance(fused.get_submodule(node.target), COUNTED) for node in called)


@pytest.mark.parametrize(
    "name", ["repvgg_a0", "mobileone_s0", "fastvit_t8", "repghostnet_050", "repvit_m1"]
)
def test_no_more_layers_than_timm_leaves(name: str) -> None:
    torch.manual_seed(0)
    model = randomize_statistics(timm.create_model(name)).eval()
    theirs = timm.utils.model.reparameterize_model(copy.deepcopy(model))
    fused = bnfuse.optimize(model)
    left = sum(isinstance(module, COUNTED) for module in theirs.modules())
    assert layers_called(fused) <= left
    x = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        wanted = copy.deepcopy(model).double()(x.double())
        assert relative_error(fused.double()(x.double()), wanted) <= 1e-5
