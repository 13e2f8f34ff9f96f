"""What the assembled module still holds."""

from __future__ import annotations

import torch
from torch import nn

import bnfuse
from tests.support import noise, ready, relative_error


class Unused(nn.Module):
    """Has a layer and a tensor that forward does not use, and a layer inside a hooked block."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.auxiliary = nn.Conv2d(3, 3, 1), nn.Sequential(nn.Linear(5, 5), nn.ReLU())
        self.block = nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))
        self.block.register_forward_hook(lambda _m, _a, out: out + 1)
        self.spare = nn.Parameter(torch.zeros(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.block(self.conv(x))


def test_unread_tensors_go_and_what_runs_stays_whole() -> None:
    model = ready(Unused())
    fused = bnfuse.optimize(model)
    assert isinstance(fused.get_submodule("auxiliary.0"), nn.Identity)
    assert isinstance(fused.get_submodule("auxiliary.1"), nn.ReLU)
    assert fused.spare is None
    keys = [key for key in model.state_dict() if not key.startswith(("auxiliary", "spare"))]
    assert [key for key in fused.state_dict() if not key.startswith("optimized")] == keys
    assert relative_error(fused(noise(1, 3, 2, 2)), model(noise(1, 3, 2, 2))) < 1e-12
    row = bnfuse.report(fused).folded[0]
    assert (row.name, row.into) == ("block.1", "block.0")


def test_a_plain_state_dict_loads() -> None:
    """One without versions, as a file of bare tensors gives: PyTorch's norms would add to it."""

    class OwnNorm(nn.BatchNorm2d):
        def __init__(self, channels: int) -> None:
            super().__init__(channels)
            self.act = nn.ReLU()

        def forward(self, input: torch.Tensor) -> torch.Tensor:  # noqa: A002 - as PyTorch names it
            result: torch.Tensor = self.act(super().forward(input))
            return result

    fused = bnfuse.optimize(nn.Sequential(nn.Conv2d(3, 4, 1), OwnNorm(4)).eval())
    assert bnfuse.report(fused).kept == ()
    fused.load_state_dict(dict(fused.state_dict()))
