"""Up before down, and down only where input and result of the affine are not written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.moves.support import Model, checked, image, operations
from tests.support import noise, optimized_checked, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def written_after_the_activation(m: Any, x: Tensor) -> Tensor:
    y = x.sigmoid()
    z = F.relu(m.norm(y), inplace=True)
    y.add_(1.0)
    return m.head(z)


def written_before_the_activation(m: Any, x: Tensor) -> Tensor:
    y = x.sigmoid()
    z = m.norm(y)
    y.add_(1.0)
    return m.head(F.relu(z, inplace=True))


def result_written(m: Any, x: Tensor) -> Tensor:
    z = m.norm(x.sigmoid())
    z.add_(1.0)
    return m.head(z)


def written_by_the_activation(m: Any, x: Tensor) -> Tensor:
    return m.head(F.relu(m.norm(x.sigmoid()), inplace=True))


def both_ways(m: Any, x: Tensor) -> Tensor:
    return m.head(m.norm(m.below(x)).tanh())


INTO: dict[str, tuple[Callable[[Any, Tensor], Tensor], list[str | None]]] = {
    "up-before-down": (both_ways, ["below"]),
    "down": (lambda m, x: m.head(m.norm(x.sigmoid())), ["head"]),
    "into-the-activation-that-writes": (written_by_the_activation, ["head"]),
    "input-written-later": (written_after_the_activation, []),
    "input-written-in-between": (written_before_the_activation, []),
    "result-written": (result_written, []),
    "another-dtype": (lambda m, x: m.head(m.norm(x.sigmoid()).to(torch.float64)), []),
}


@pytest.mark.parametrize("name", INTO)
def test_the_way(name: str) -> None:
    run, into = INTO[name]
    layers = {"below": nn.Conv2d(4, 4, 1), "norm": nn.BatchNorm2d(4), "head": nn.Conv2d(4, 3, 1)}
    report = checked(ready(Model(run, **layers)), image(4))[1]
    assert [row.into for row in report.folded] == into


def test_a_constant_that_grows_the_value_stays() -> None:
    """One channel becomes four; without the constant the convolution would read one."""
    made: dict[str, Any] = {"c": torch.ones(4, 1, 1), "head": nn.Conv2d(4, 3, 1)}
    model = ready(Model(lambda m, x: m.head(x[:, :1].sigmoid() * m.c), **made))
    assert "mul" in operations(checked(model, image(4))[0])


UNREAD: dict[str, Callable[[Any, Tensor], Tensor]] = {
    "not-read": lambda m, x: (m.norm(x * 1.0), x.neg())[1],
    "function-not-read": lambda m, x: (F.batch_norm(x * 1.0, m.mean, m.variance), x.neg())[1],
    "shape-read": lambda m, x: x.neg().reshape(F.batch_norm(x * 1.0, m.mean, m.variance).shape),
    "behind-a-layer": lambda m, x: (F.batch_norm(m.conv(x), m.mean, m.variance), x.neg())[1],
}


@pytest.mark.parametrize("name", UNREAD)
@pytest.mark.parametrize("axes", [2, 3, 4])
def test_an_affine_that_nothing_reads_takes_no_rank_for_granted(name: str, axes: int) -> None:
    layers: dict[str, Any] = {
        "mean": nn.Buffer(noise(3)),
        "variance": nn.Buffer(noise(3).abs()),
        "conv": nn.Conv2d(3, 3, 1),
    }
    model = ready(Model(UNREAD[name], norm=nn.BatchNorm1d(3), **layers))
    x = noise(*(3, 3, 3, 3)[:axes])
    if (axes == 4 and name == "not-read") or (axes == 2 and name == "behind-a-layer"):
        return  # the model takes no such input
    assert len(optimized_checked(model, x).folded) == 1
