"""An affine moved through operations that join values or take them apart."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from tests.moves.support import Model, folded, image
from tests.support import ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[Any, Tensor], Any]

# ``a`` and ``b`` have 6 channels, the result is what a batch norm of 6 or 12 channels reads.
UP: dict[str, Run] = {
    "cat": lambda m, x: m.norm12(torch.cat([m.a(x), m.b(x)], 1)),
    "cat-negative": lambda m, x: m.norm12(torch.cat((m.a(x), m.b(x)), dim=-3)),
    "cat-other-axis": lambda m, x: m.norm6(torch.cat([m.a(x), m.b(x)], 2)),
    "cat-batch": lambda m, x: m.norm6(torch.concat([m.a(x), m.b(x)])),
    "cat-of-cats": lambda m, x: m.norm12(
        torch.cat([torch.cat([m.a(x), m.c(x)], 1), m.d(x)], dim=1)
    ),
    "chunk": lambda m, x: m.norm3((y := m.a(x).chunk(2, 1))[0]) + y[1],
    "chunk-4-of-6": lambda m, x: m.norm2(m.a(x).chunk(4, 1)[2]),
    "last-piece": lambda m, x: m.norm3((y := m.a(x).chunk(2, dim=1))[-1]) + y[0],
    "split": lambda m, x: m.norm4(m.a(x).split([2, 4], 1)[1]),
    "split-size": lambda m, x: m.norm2(torch.split(m.a(x), 4, 1)[1]),
    "both-pieces": lambda m, x: m.norm3((y := m.a(x).chunk(2, 1))[0]) * m.norm3(y[1]),
    "slice": lambda m, x: m.norm4(m.a(x)[:, 2:]),
    "slice-with-steps": lambda m, x: m.norm3(m.a(x)[:, ::2, 1:, :-1]),
    "slice-beyond": lambda m, x: m.norm4(m.a(x)[:, -4:99]),
}
NOT_UP: dict[str, Run] = {
    "split-of-unknown-sizes": lambda m, x: m.norm6(m.a(x).chunk(2, 3)[0]),
    "cat-twice": lambda m, x: m.norm12(torch.cat([y := m.a(x), y], 1)),
    "cat-of-an-input": lambda m, x: m.norm6(torch.cat([m.a(x)[:, :3], x], 1)),
    "cat-arm-read-elsewhere": lambda m, x: m.norm12(torch.cat([y := m.a(x), m.b(x)], 1))[:, :6] + y,
    "piece-twice": lambda m, x: m.norm3((y := m.a(x).chunk(2, 1))[0]) + y[0],
    "piece-twice-negative": lambda m, x: m.norm3((y := m.a(x).chunk(2, 1))[0]) + y[-2],
    "pieces-joined": lambda m, x: torch.cat(
        [m.norm3((y := m.a(x).chunk(2, 1))[0]), torch.cat(y, 1)], 1
    ),
    "other-axis-piece": lambda m, x: m.norm6((y := m.a(x).chunk(2, 3))[0]) + y[1] + y[0],
    "overlapping-slices": lambda m, x: m.norm4((y := m.a(x))[:, :4]) + y[:, 2:],
    "whole-read-elsewhere": lambda m, x: m.norm3((y := m.a(x)).chunk(2, 1)[0]) + y[:, :3],
}
# ``y`` is a batch norm of 6 channels, ``x`` has 6 as well.
DOWN: dict[str, Callable[..., Any]] = {
    "cat": lambda m, y, x: m.head12(torch.cat([m.conv(x), y], 1)),
    "cat-with-an-arm-without": lambda m, y, x: m.head12(torch.cat([y, m.conv(x).sigmoid()], 1)),
    "chunk": lambda m, y, x: m.head3((z := y.chunk(2, 1))[0]) + m.other3(z[1]),
    "chunk-4-of-6": lambda m, y, x: m.head2((z := y.chunk(4, 1))[0]) + m.other2(z[-1]),
    "split": lambda m, y, x: m.head2((z := y.split([2, 1, 3], 1))[0]) + m.other3(z[2]),
    "split-size": lambda m, y, x: m.head2(y.split(4, dim=1)[1]),
    "piece-twice": lambda m, y, x: m.head3((z := y.chunk(2, 1))[0]) + m.other3(z[0]),
    "slice": lambda m, y, x: m.head3(y[:, 3:]),
    "slice-with-steps": lambda m, y, x: m.head3(y[:, ::2, :, 1:]),
    "slice-space": lambda m, y, x: m.head6(y[:, :, 1:]),
    "slice-negative": lambda m, y, x: m.head2(y[:, -2:]),
}
NOT_DOWN: dict[str, Callable[..., Any]] = {
    "chunk-of-unknown-sizes": lambda m, y, x: m.head6(y.chunk(2, 2)[1]),
    "unbind-of-unknown-sizes": lambda m, y, x: m.linear6(y.unbind(3)[1].transpose(1, 2)),
    "cat-with-unknown-sizes": lambda m, y, x: m.head12(torch.cat([x, y], 1)),
    "cat-twice": lambda m, y, x: m.head12(torch.cat([y, y], 1)),
    "cat-other-axis": lambda m, y, x: m.head6(torch.cat([y, x], 2)),
    "pieces-returned": lambda m, y, x: y.chunk(2, 1),
    "computed-slice": lambda m, y, x: m.head6(y[:, :, : x.size(2)]),
    "index": lambda m, y, x: m.linear6(y[:, :, 0, 0]),
    "a-piece-read-by-others": lambda m, y, x: (
        m.head3((z := y.chunk(2, 1))[0]) + z[1].sigmoid().mean()
    ),
}


@pytest.mark.parametrize("name", [*UP, *NOT_UP])
def test_up(name: str) -> None:
    run = {**UP, **NOT_UP}[name]
    norms = {f"norm{n}": nn.BatchNorm2d(n) for n in (2, 3, 4, 6, 12)}
    layers = {"a": nn.Conv2d(3, 6, 1), "b": nn.Conv2d(3, 6, 1), "c": nn.Conv2d(3, 2, 1)}
    layers["d"] = nn.Conv2d(3, 4, 1)
    got = folded(ready(Model(run, **layers, **norms)), image())
    assert got == (2 if name == "both-pieces" else 1 if name in UP else 0)


@pytest.mark.parametrize("name", [*DOWN, *NOT_DOWN])
def test_down(name: str) -> None:
    run = {**DOWN, **NOT_DOWN}[name]
    heads = {f"head{n}": nn.Conv2d(n, 2, 1) for n in (2, 3, 6, 12)}
    others = {f"other{n}": nn.Conv2d(n, 2, 1) for n in (2, 3)}
    layers = {"norm": nn.BatchNorm2d(6), "linear6": nn.Linear(6, 2), "conv": nn.Conv2d(6, 6, 1)}
    model = Model(lambda m, x: run(m, m.norm(x), x), **layers, **heads, **others)
    assert folded(ready(model), image(6)) == (name in DOWN)
