"""Captured for the form of an example, or not at all."""

from __future__ import annotations

import functools
import warnings
from typing import TYPE_CHECKING, Any

import numpy as np
import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.capture import Capture, capture, capture_by_example
from bnfuse.graph.part import part_forward
from tests.support import noise, ready, relative_error

if TYPE_CHECKING:
    from collections.abc import Callable

X = noise(2, 3, 4, 4)


class Sized(nn.Module):
    """Asks for a size as a number, which no trace knows, and then does something more."""

    def __init__(self, more: Callable[[Any, torch.Tensor, torch.Tensor], object]) -> None:
        super().__init__()
        self.conv, self.norm, self.more = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3), more
        self.offset = torch.ones(1, dtype=torch.float64)
        self.register_buffer("calls", torch.zeros(1, dtype=torch.float64))
        self.seen: list[int] = []
        self.count = 0

    def forward(self, x: torch.Tensor) -> object:
        if int(x.shape[0]) > 3:
            raise ValueError("at most three at a time")
        return self.more(self, self.norm(self.conv(x)), x)


def plain(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return y


def captured(more: Callable[[Any, torch.Tensor, torch.Tensor], object]) -> Capture | str:
    """Capture a model for the example."""
    return capture_by_example(ready(Sized(more)).requires_grad_(requires_grad=False), ((X,), {}))


def test_it_stands_for_calls_of_the_example_s_form() -> None:
    model = ready(Sized(plain))
    assert isinstance(capture(model), str)
    fused = bnfuse.optimize(model, (X,), validate=False)
    assert [row.name for row in bnfuse.report(fused).folded] == ["norm"]
    for x in (X, noise(2, 3, 4, 4, seed=7), noise(1, 3, 4, 4), noise(2, 3, 5, 2), X.mT):
        assert relative_error(fused(x), model(x)) <= 1e-12
    assert relative_error(fused(x=X), model(X)) <= 1e-12
    with pytest.raises(ValueError, match="at most three"):
        fused(noise(4, 3, 4, 4))
    with pytest.raises(RuntimeError):
        fused(X.float())


def views(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return {"y": y, "again": y, "view": y[0], "input": x, "of input": x.view(-1)}


def writes_input(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    x.mul_(2)
    return m.conv(x).relu_() + y, x


def makes_tensors(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    made = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64)
    return y * made + torch.arange(4) + torch.zeros(4, dtype=torch.float64), made


def draws(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return y + torch.rand(4, dtype=torch.float64)


def selects(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return y, x[x > 0], None, "text", 3


@functools.cache
def ramp(size: int) -> torch.Tensor:
    return torch.arange(size, dtype=torch.float64)


def remembers(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return y + ramp(int(x.shape[3])), m.offset, m.conv.weight


def asks_compiler(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return y * 2 if torch.compiler.is_compiling() or torch.compiler.is_exporting() else y


CAPTURED = [views, writes_input, makes_tensors, draws, selects, remembers, asks_compiler]


@pytest.mark.parametrize("more", CAPTURED)
def test_it_does_all_that_the_forward_does(more: Any) -> None:
    model = ready(Sized(more)).requires_grad_(requires_grad=False)
    fused = bnfuse.optimize(model, (X.clone(),), validate=False)
    assert part_forward(fused) is not None
    for seed in (3, 4):
        results = []
        for one in (model, fused):
            given = noise(2, 3, 4, 4, seed=seed)
            torch.manual_seed(seed)
            outputs = torch.utils._pytree.tree_leaves(one(given))
            results.append([given, *outputs])
            if more is makes_tensors:
                outputs[1].zero_()
        wanted, got = results
        for mine, other in zip(got, wanted, strict=True):
            if isinstance(other, torch.Tensor):
                assert torch.allclose(mine, other, rtol=1e-12, atol=1e-12)
                assert type(mine) is type(other)
            else:
                assert mine == other
        assert same_memory(got) == same_memory(wanted)


def same_memory(leaves: list[Any]) -> list[tuple[bool, bool]]:
    """Return which pairs are one tensor, and which share memory, the model's own apart."""
    found = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
    pairs = [(a, b) for i, a in enumerate(found) for b in found[:i]]
    return [(a is b, a.untyped_storage()._cdata == b.untyped_storage()._cdata) for a, b in pairs]


def test_caches_of_functions_keep_real_tensors() -> None:
    ramp.cache_clear()
    assert isinstance(captured(remembers), Capture)
    assert type(ramp(4)) is torch.Tensor
    assert ramp(4).tolist() == [0, 1, 2, 3]


def branches(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return y if y.sum() > 0 else -y


def reads_elements(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return torch.from_numpy(y.numpy() + 1)


def counts(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    m.count += 1
    return y


def appends(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    m.seen.append(1)
    return y


def writes_buffer(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    m.get_buffer("calls").add_(1)
    return y


def writes_data(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    m.get_buffer("calls").data.add_(1)
    return y


def writes_attribute(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    m.offset.add_(1)
    return y


def asks_mode(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return y if torch.is_grad_enabled() else -y


def casts(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    with torch.autocast("cpu"):
        return y * 2


def draws_elsewhere(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return y * float(np.random.rand())  # noqa: NPY002 - what a forward may do


def asks_by_kind(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return y if type(x).__name__ == "Tensor" else -y


def enters_grad_mode(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    with torch.enable_grad():
        return y * 2


def says(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    print(y.shape)  # noqa: T201 - what a forward may do
    return y


def returns_set(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return {1, 2}


def returns_attribute(m: Sized, y: torch.Tensor, x: torch.Tensor) -> object:
    return y, m.seen


@pytest.mark.parametrize(
    ("more", "clause"),
    [
        (branches, ""),  # PyTorch prints, logs and raises, in this order
        (reads_elements, "exporting it for the example raised"),
        (returns_set, "exporting it for the example raised"),
        (counts, "its forward sets count"),
        (appends, "its forward changes seen"),
        (writes_buffer, "its forward changes _buffers"),
        (writes_data, "exporting it for the example raised"),
        (writes_attribute, "its forward changes offset"),
        (asks_mode, "its forward calls torch.is_grad_enabled"),
        (casts, "its forward enters autocast"),
        (draws_elsewhere, "its forward draws random numbers of its own"),
        (asks_by_kind, "its export does not do what it does"),
        (enters_grad_mode, "its forward has a region of its own"),
        (says, "its forward prints"),
        (returns_attribute, "its forward returns a container that others hold"),
    ],
)
def test_what_a_graph_would_lose(more: Any, clause: str) -> None:
    obstacle = captured(more)
    assert isinstance(obstacle, str)
    assert obstacle.startswith(clause)
    model = ready(Sized(more))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        fused = bnfuse.optimize(model, (X,), validate=False)
    assert part_forward(fused) is None
