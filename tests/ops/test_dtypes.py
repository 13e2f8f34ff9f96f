"""Which dtypes a value may have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import fx, nn

from bnfuse.graph import Program
from bnfuse.ops.dtypes import FLOATING, UNKNOWN
from tests.moves.support import Model
from tests.support import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

F16, BF16, F32, F64 = torch.float16, torch.bfloat16, torch.float32, torch.float64
CASES: dict[str, tuple[Callable[[Any, Tensor], Any], frozenset[torch.dtype]]] = {
    "input": (lambda _, x: x, UNKNOWN),
    "convolution": (lambda m, x: m.conv(x), frozenset({F32})),
    "norm-of-anything": (lambda m, x: m.norm(x), FLOATING),
    "norm-of-a-convolution": (lambda m, x: m.norm(m.conv(x)), frozenset({F32})),
    "constant": (lambda m, _: m.wide, frozenset({F64})),
    "sum": (lambda m, x: m.conv(x) + m.wide, frozenset({F32, F64})),
    "sum-with-anything": (lambda m, x: m.conv(x) + x, UNKNOWN),
    "sum-of-halves-is-none-of-them": (
        lambda m, x: x.half().relu() + x.bfloat16(), frozenset({F16, BF16, F32})
    ),
    "cast": (lambda _, x: x.to(torch.float16), frozenset({F16})),
    "cast-to-whole-numbers": (lambda m, x: m.conv(x).to(torch.int64), UNKNOWN),
    "whole-numbers-divided": (lambda _, x: x.to(torch.int64) / 2, UNKNOWN),
    "like-another": (lambda m, x: m.conv(x).to(x), UNKNOWN),
    "viewed": (lambda m, x: m.conv(x).view(torch.int32), UNKNOWN),
    "with-indices": (
        lambda m, x: nn.functional.max_pool2d(m.conv(x), 2, return_indices=True), UNKNOWN
    ),
    "clamped-by-numbers": (lambda m, x: m.conv(x).clamp(0.0), frozenset({F32})),
    "clamped-by-a-tensor": (lambda m, x: torch.clamp(m.conv(x), m.wide), UNKNOWN),
    "unknown": (lambda m, x: torch.special.i0(m.conv(x)), UNKNOWN),
    "hooked": (lambda m, x: m.hooked(m.conv(x)), UNKNOWN),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_the_dtypes_of_a_value(name: str) -> None:
    run, wanted = CASES[name]
    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda _m, _a, out: out)
    model = Model(
        run,
        conv=nn.Conv2d(4, 4, 1),
        norm=nn.BatchNorm2d(4),
        hooked=hooked,
        wide=noise(4, 1, 1).double(),
    )
    graph = fx.symbolic_trace(model).graph
    *_, last, _ = graph.nodes
    assert Program(model, graph).dtypes.of(last) == wanted


def test_an_exported_program_says_them() -> None:
    model = Model(lambda _, x: torch.special.i0(x))
    program = torch.export.export(model, (noise(2).double(),))
    *_, last, _ = program.graph.nodes
    assert Program(nn.Module(), program.graph).dtypes.of(last) == {F64}
