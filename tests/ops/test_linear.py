"""Where the linear operations have their channels."""

from __future__ import annotations

import pytest
from torch import nn

from bnfuse.ops import Call, output_channels, rank_with_channels_on_axis_1, read_call
from tests.support import program_of


def call_of(layer: nn.Module) -> Call:
    program = program_of(nn.Sequential(layer))
    found = [read_call(program, node) for node in program.graph.nodes]
    return next(call for call in found if call is not None)


@pytest.mark.parametrize(
    ("layer", "channels", "rank"),
    [
        (nn.Linear(3, 5), 5, 2),
        (nn.Conv1d(4, 6, 3, groups=2), 6, 3),
        (nn.Conv2d(4, 6, 3), 6, 4),
        (nn.Conv3d(4, 8, 3, groups=4), 8, 5),
        (nn.ConvTranspose1d(4, 6, 3), 6, 3),
        (nn.ConvTranspose2d(4, 6, 3, groups=2), 6, 4),
        (nn.ConvTranspose3d(4, 8, 3, groups=4), 8, 5),
    ],
    ids=str,
)
def test_channels_and_rank(layer: nn.Module, channels: int, rank: int) -> None:
    call = call_of(layer)
    assert output_channels(call) == channels
    assert rank_with_channels_on_axis_1(call) == rank
