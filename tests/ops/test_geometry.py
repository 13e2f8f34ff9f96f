"""Convolutions of the graph as branches, and back."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.affine.branch import Branch
from bnfuse.graph import Program
from bnfuse.ops import Call, Kind, read_call, write_weights
from bnfuse.ops.geometry import branch_of, write_geometry
from tests.passes.branches import Block
from tests.support import noise, program_of, ready, relative_error


def found(model: nn.Module) -> tuple[Program, Call]:
    program = program_of(model)
    calls = [read_call(program, node) for node in program.graph.nodes]
    return program, next(c for c in calls if c is not None and c.kind is Kind.CONVOLUTION)


def branch(**options: Any) -> Branch | None:
    return branch_of(*found(ready(nn.Sequential(nn.Conv2d(4, 4, **options)))))


@pytest.mark.parametrize(
    ("options", "padding"),
    [
        ({"kernel_size": 3}, (0, 0)),
        ({"kernel_size": (3, 1), "padding": (1, 0)}, (1, 0)),
        ({"kernel_size": 3, "padding": "valid"}, (0, 0)),
        ({"kernel_size": (3, 5), "padding": "same"}, (1, 2)),
        ({"kernel_size": 3, "padding": "same", "dilation": 2}, (2, 2)),
    ],
)
def test_padding(options: dict[str, Any], padding: tuple[int, int]) -> None:
    made = branch(**options)
    assert made is not None
    assert made.padding == padding
    assert made.weight.dtype is torch.float64
    assert made.stride == (1, 1)


def test_no_branch() -> None:
    assert branch(kernel_size=2, padding="same") is None  # its two sides differ
    assert branch(kernel_size=1, dtype=torch.complex64) is None
    program, call = found(ready(nn.Sequential(nn.Conv2d(4, 4, 1))))
    call.options["padding"] = (call.input, 1)
    assert branch_of(program, call) is None
    linear = nn.Sequential(nn.Linear(4, 4), nn.Conv2d(4, 4, 1))
    linear[1].register_forward_hook(lambda *_: None)
    assert branch_of(*found(ready(linear))) is None


@pytest.mark.parametrize(
    "run",
    [
        lambda m, x: m.a(x),
        lambda m, x: F.conv2d(x, m.a.weight, m.a.bias, 1, "same"),
        lambda m, x: F.conv2d(x, m.a.weight, bias=m.a.bias, padding="same"),
        lambda m, x: torch.ops.aten.conv2d.padding(x, m.a.weight, m.a.bias, [1, 1], "same"),
        lambda m, x: torch.ops.aten.conv2d.default(x, m.a.weight, m.a.bias, [1, 1], [1, 1]),
    ],
)
def test_written_geometry_is_run(run: Any) -> None:
    model = ready(Block(run, a=nn.Conv2d(4, 4, 3, padding="same")))
    program, call = found(model)
    wanted = Branch(noise(4, 2, 5, 3), noise(4), (2, 1), (3, 1), (1, 2), 2)
    write_geometry(program, call, wanted)
    write_weights(program, call, wanted.weight, wanted.bias)
    x = noise(2, 4, 9, 9)
    got = torch.fx.GraphModule(program.root, program.graph)(x)
    again = F.conv2d(x, wanted.weight, wanted.bias, (2, 1), (3, 1), (1, 2), 2)
    assert relative_error(got, again) <= 1e-12


def test_only_convolutions_are_written() -> None:
    program = program_of(ready(nn.Sequential(nn.Linear(4, 4))))
    calls = [read_call(program, node) for node in program.graph.nodes]
    linear = next(call for call in calls if call is not None)
    identity = Branch.diagonal(torch.ones(4), torch.zeros(4), 2)
    with pytest.raises(TypeError, match="0 is no convolution"):
        write_geometry(program, linear, identity)
