"""An affine moved through operations that choose between a value and something else."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.moves.support import (
    Model,
    before,
    behind,
    checked,
    image,
    operations,
    positive,
    settled,
    unshifted,
)
from tests.support import ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[Any, Tensor], Any]

INF = float("inf")
ANY, POSITIVE, SCALE, POSITIVE_SCALE, NONE = "any", "positive", "scale", "positive scale", "none"
# What passes with one value and something that is not the model's to change.
BOTH: dict[str, tuple[Run, str]] = {
    "clamp-min": (lambda m, y: y.clamp(min=0), POSITIVE_SCALE),
    "clamp-max": (lambda m, y: torch.clamp(y, max=0.0), POSITIVE_SCALE),
    "clamp-min-method": (lambda m, y: y.clamp_min(0), POSITIVE_SCALE),
    "clip": (lambda m, y: torch.clip(y, 0, INF), POSITIVE_SCALE),
    "clamp-nothing": (lambda m, y: y.clamp(-INF, INF), POSITIVE),
    "clamp-6": (lambda m, y: y.clamp(0, 6), NONE),
    "clamp-by-a-size": (lambda m, y: y.clamp(min=y.dim() - 4), NONE),
    "clamp-by-a-tensor": (lambda m, y: y.clamp(min=m.zero), NONE),
    "relu6": (lambda m, y: F.relu6(y), NONE),
    "hardtanh": (lambda m, y: F.hardtanh(y), NONE),
    "hardtanh-from-0": (lambda m, y: F.hardtanh(y, 0.0, INF), POSITIVE_SCALE),
    "hardtanh-layer": (lambda m, y: m.op(y), POSITIVE_SCALE),
    "maximum-with-0": (lambda m, y: torch.maximum(y, m.zero), POSITIVE_SCALE),
    "minimum-with-0": (lambda m, y: m.zero.minimum(y), POSITIVE_SCALE),
    "maximum-with-1": (lambda m, y: torch.maximum(y, m.zero + 1), NONE),
    "maximum-of-one": (lambda m, y: torch.maximum(y, y), NONE),
    "fill-0": (lambda m, y: y.masked_fill(m.mask, 0), SCALE),
    "fill-infinite": (lambda m, y: torch.masked_fill(y, m.mask, -INF).clamp(0), POSITIVE_SCALE),
    "fill-1": (lambda m, y: y.masked_fill(m.mask, 1.0), NONE),
    "fill-by-a-size": (lambda m, y: y.masked_fill(m.mask, y.dim() - 4), NONE),
    "where-0": (lambda m, y: torch.where(m.mask, y, 0.0), SCALE),
    "where-0-first": (lambda m, y: torch.where(m.mask, 0.0, y), SCALE),
    "where-method": (lambda m, y: y.where(m.mask, m.zero), SCALE),
    "where-2": (lambda m, y: y.where(m.mask, 2), NONE),
}
# On the way down a clamp by numbers gets bounds for each channel.
DOWN = dict.fromkeys(
    ("clamp-min", "clamp-max", "clamp-min-method", "clip", "clamp-nothing", "clamp-6", "relu6",
     "hardtanh", "hardtanh-from-0", "hardtanh-layer"), ANY
) | {"fill-infinite": POSITIVE}  # fmt: skip
LEVELS = {
    ANY: (1, 1, 1, 1), POSITIVE: (0, 1, 0, 1), SCALE: (0, 0, 1, 1), POSITIVE_SCALE: (0, 0, 0, 1),
    NONE: (0, 0, 0, 0),
}  # fmt: skip


def layers() -> dict[str, Any]:
    mask = torch.arange(36).reshape(6, 6) % 3 == 0
    return {"mask": mask, "zero": nn.Buffer(torch.zeros(1, 1, 1)), "op": nn.Hardtanh(0.0, INF)}


def outcomes(model: Model, x: Tensor) -> tuple[int, int, int, int]:
    """Return what folds: any affine, a positive scale, a scale alone, a positive scale alone."""
    found = [settled(model, x)]
    signs = model.norm.weight.detach().clone()
    found.append(settled(positive(model), x))
    unshifted(model).norm.weight.data.copy_(signs)
    found.append(settled(model, x))
    found.append(settled(positive(model), x))
    return (found[0], found[1], found[2], found[3])


@pytest.mark.parametrize("is_up", [True, False], ids=["up", "down"])
@pytest.mark.parametrize("name", BOTH)
def test_one_value(name: str, is_up: bool) -> None:
    run, level = BOTH[name]
    if is_up:
        model, x = behind(run, 4, **layers()), image()
    else:
        model, x, level = before(run, 4, **layers()), image(4), DOWN.get(name, level)
    assert outcomes(model, x) == LEVELS[level]


TWO: dict[str, tuple[Run, str]] = {
    "maximum": (lambda m, x: torch.maximum(m.a(x), m.b(x * x)), POSITIVE),
    "minimum": (lambda m, x: m.a(x).minimum(m.b(x * x)), POSITIVE),
    "where": (lambda m, x: torch.where(m.mask, m.a(x), m.b(x * x)), ANY),
    "where-of-computed": (lambda m, x: torch.where(x[:, :1] > 0, m.a(x), m.b(x * x)), ANY),
    "one-without-weight": (lambda m, x: torch.maximum(m.a(x), x[:, :1].sigmoid()), NONE),
}


@pytest.mark.parametrize("name", TWO)
def test_both_values_take_the_affine(name: str) -> None:
    run, level = TWO[name]
    made = {"a": nn.Conv2d(3, 4, 1), "b": nn.Conv2d(3, 4, 1), "norm": nn.BatchNorm2d(4)}
    model = ready(Model(lambda m, x: m.norm(run(m, x)), **made, **layers()))
    assert outcomes(model, image()) == LEVELS[level]


@pytest.mark.parametrize("name", ["maximum", "where"])
def test_an_affine_on_one_of_two_values_stays(name: str) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y, z = m.norm(x), x.sigmoid()
        return m.head(torch.maximum(y, z) if name == "maximum" else torch.where(m.mask, y, z))

    made = {"norm": nn.BatchNorm2d(4), "head": nn.Conv2d(4, 2, 1)}
    assert outcomes(ready(Model(run, **made, **layers())), image(4)) == LEVELS[NONE]


def test_a_mask_that_makes_the_value_larger() -> None:
    """One channel becomes four by the mask: an affine of four stays behind it."""
    made: dict[str, Any] = {"a": nn.Conv2d(3, 1, 1), "c": torch.zeros(4, 1, 1)}
    made["mask"] = torch.arange(4).reshape(4, 1, 1) > 1
    model = ready(Model(lambda m, x: m.a(x).masked_fill(m.mask, 0) * m.c, **made))
    assert "mul" in operations(checked(model, image())[0])


def test_a_bound_that_the_forward_writes() -> None:
    def run(m: Any, y: Tensor) -> Tensor:
        m.zero.add_(0)
        return torch.maximum(y, m.zero)

    assert settled(unshifted(behind(run, 4, **layers())), image()) == 0


def test_numbers() -> None:
    made: dict[str, Any] = {"a": nn.Conv2d(3, 4, 1), **layers()}
    model = ready(Model(lambda m, x: m.a(x).masked_fill(m.mask, 0) * -2, **made))
    assert "mul" not in operations(checked(model, image())[0])
    model.run = lambda m, x: torch.maximum(m.a(x), m.zero) * 2
    assert "mul" not in operations(checked(model, image())[0])
    model.run = lambda m, x: torch.maximum(m.a(x), m.zero) * -2
    assert "mul" in operations(checked(model, image())[0])
    model.run = lambda m, x: (m.a(x).clamp(-1, 1) - 0.5) * 2
    assert "mul" in operations(checked(model, image())[0])
