"""Exported programs are accepted, in their own dialect."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

import bnfuse
from tests.support import noise, ready, relative_error, sequential


def exported(model: nn.Module, *inputs: torch.Tensor) -> torch.export.ExportedProgram:
    """Export with an open batch size."""
    batch = torch.export.Dim("batch", min=1)
    shapes = tuple({0: batch} for _ in inputs)
    return torch.export.export(model, inputs, dynamic_shapes=shapes)


LAYERS = {
    "conv1d": (nn.Conv1d(3, 4, 3), nn.BatchNorm1d(4), (2, 3, 6)),
    "conv2d": (nn.Conv2d(4, 4, 3, groups=2, bias=False), nn.BatchNorm2d(4), (2, 4, 6, 6)),
    "conv2d same": (nn.Conv2d(3, 4, 3, padding="same"), nn.BatchNorm2d(4), (2, 3, 6, 6)),
    "conv3d": (nn.Conv3d(3, 4, 3), nn.BatchNorm3d(4, affine=False), (2, 3, 4, 4, 4)),
    "transposed": (nn.ConvTranspose2d(4, 6, 3, groups=2), nn.BatchNorm2d(6), (2, 4, 4, 4)),
    "linear": (nn.Linear(3, 4), nn.BatchNorm1d(4), (2, 3)),
}


@pytest.mark.parametrize("name", LAYERS)
def test_every_linear_operation_folds_in_the_aten_dialect(name: str) -> None:
    layer, norm, shape = LAYERS[name]
    model = sequential(layer, nn.Dropout(), norm, nn.ReLU())
    fused = bnfuse.optimize(exported(model, noise(*shape)))
    assert [(row.name, row.into) for row in bnfuse.report(fused).folded] == [("2", "0")]
    assert isinstance(fused, fx.GraphModule)
    assert "batch_norm" not in str(fused.graph)
    assert "aten" in str(fused.graph)
    x = noise(5, *shape[1:])
    assert relative_error(fused(x), model(x)) < 1e-12


class Writing(nn.Module):
    """Writes its statistics, and a value between the two layers."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.norm.get_buffer("running_mean").mul_(0.5)
        return self.norm(self.conv(x))


def test_what_an_exported_program_writes_is_not_folded() -> None:
    program = exported(ready(Writing()), noise(2, 3, 4, 4))
    report = bnfuse.explain(program)
    assert not report.folded
    assert [row.reason for row in report.kept] in (["written-constants"], ["computed-constants"])


def test_exported_in_training_mode_stays() -> None:
    model = sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)).train()
    program = torch.export.export(model, (noise(2, 3, 4, 4),))
    assert [row.reason for row in bnfuse.explain(program).kept] == ["training-mode"]


def test_it_is_verified_against_itself() -> None:
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    program = exported(model, noise(2, 3, 6, 6))
    fused = bnfuse.optimize(program, (noise(2, 3, 6, 6),))
    assert len(bnfuse.report(fused).folded) == 1
    assert bnfuse.verify(program, fused, (noise(3, 3, 6, 6),)).passed
