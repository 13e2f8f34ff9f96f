"""Which values are laid out as a batch norm lays out its result."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import fx, nn

from bnfuse.graph import Program
from tests.moves.support import Model
from tests.support import noise

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

FORMATTED: dict[str, Callable[[Any, Tensor], Any]] = {
    "convolution": lambda m, x: m.conv(x),
    "rectifier-of-one": lambda m, x: m.conv(x).relu(),
    "sum-of-two": lambda m, x: m.conv(x) + m.conv(x).sigmoid(),
    "scaled-by-a-tensor": lambda m, x: m.conv(x) * m.c,
    "pooled": lambda m, x: nn.functional.max_pool2d(m.conv(x).neg(), 2),
    "concatenation": lambda _, x: torch.cat((x, x), 1),
}
OTHERWISE: dict[str, Callable[[Any, Tensor], Any]] = {
    "input": lambda _, x: x,
    "transposed": lambda m, x: m.conv(x).transpose(1, 2),
    "rectifier-of-a-view": lambda m, x: m.conv(x).transpose(1, 2).relu(),
    "sum-with-a-view": lambda m, x: m.conv(x) + m.conv(x).transpose(2, 3),
    "stack": lambda m, x: torch.stack((m.conv(x), m.conv(x)), 1).relu(),
    "unknown": lambda m, x: torch.special.i0(m.conv(x)),
    "hooked": lambda m, x: m.hooked(m.conv(x)),
}


def answer(run: Callable[[Any, Tensor], Any]) -> bool:
    hooked = nn.ReLU()
    hooked.register_forward_hook(lambda _m, _a, out: out)
    model = Model(run, conv=nn.Conv2d(4, 4, 1), c=noise(4, 1, 1), hooked=hooked)
    graph = fx.symbolic_trace(model).graph
    *_, last, _ = graph.nodes
    return Program(model, graph).formats.of(last)


@pytest.mark.parametrize("run", FORMATTED.values(), ids=FORMATTED)
def test_a_tensor_of_its_own_has_a_format_and_what_goes_element_by_element_of_it(
    run: Callable[[Any, Tensor], Any],
) -> None:
    assert answer(run)


@pytest.mark.parametrize("run", OTHERWISE.values(), ids=OTHERWISE)
def test_a_view_has_none_nor_what_is_computed_of_it(run: Callable[[Any, Tensor], Any]) -> None:
    assert not answer(run)
