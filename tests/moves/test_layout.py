"""An affine moved through operations that move elements."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.moves.support import Model, checked, folded, image, named, settled
from tests.support import noise, ready

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    Run = Callable[[Any, Tensor], Any]

# The result has 6 channels for a batch norm of two dimensions.
UP: dict[str, Run] = {
    "permute": lambda m, x: m.linear(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2),
    "stack": lambda m, x: torch.stack([m.conv(x), m.conv(x * x)]).flatten(0, 1),
    "cat-by-name": lambda m, x: named(torch.cat, tensors=[m.conv(x), m.conv(x * x)], axis=0),
    "squeeze-by-name": lambda m, x: m.conv(x).unsqueeze(dim=1).squeeze(axis=1),
    "permute-negative": lambda m, x: m.linear(x.permute(0, -2, -1, 1)).permute(0, -1, 1, 2),
    "transpose": lambda m, x: m.linear(x.transpose(1, 3)).transpose(-1, 1),
    "torch-transpose": lambda m, x: torch.transpose(m.linear(torch.transpose(x, 1, 3)), 3, 1),
    "spatial-transpose": lambda m, x: m.conv(x).transpose(2, 3),
    "mean": lambda m, x: m.conv(x).mean((2, 3), keepdim=True),
    "mean-one-axis": lambda m, x: m.conv(x).mean(-1, keepdim=True),
    "mean-and-unsqueeze": lambda m, x: m.conv(x).mean(3).unsqueeze(-1),
    "contiguous": lambda m, x: m.conv(x).contiguous().clone(),
}
NOT_UP: dict[str, Run] = {
    "view-of-unknown-sizes": lambda m, x: m.conv(x).flatten(2).view(2, 6, 6, 6),
    "heads-of-unknown-sizes": lambda m, x: (
        m.linear(x.flatten(2).transpose(1, 2)).reshape(2, 36, 6).transpose(1, 2).view(2, 6, 6, 6)
    ),
    "mean-of-channels": lambda m, x: m.wide(x).mean((1,), keepdim=True).expand(-1, 6, -1, -1),
    "merged-axes": lambda m, x: m.conv(x).reshape(1, 12, 6, 6)[:, :6],
}
# The result has 5 channels, the value has 4.
DOWN: dict[str, Run] = {
    "permute": lambda m, y: m.linear(y.permute(0, 2, 3, 1)),
    "swapaxes": lambda m, y: m.linear(y.swapaxes(1, 3)),
    "spatial-transpose": lambda m, y: m.conv(y.transpose(2, 3)),
    "mean": lambda m, y: m.linear(y.mean((2, 3))),
    "mean-negative": lambda m, y: m.linear(y.mean([-1, -2])),
    "mean-in-two-steps": lambda m, y: m.linear(y.mean(2).mean(-1)),
    "mean-keeping": lambda m, y: m.conv(y.mean((2, 3), True)),
    "adaptive-pool-and-flatten": lambda m, y: m.linear(F.adaptive_avg_pool2d(y, 1).flatten(1)),
    "squeeze": lambda m, y: m.linear(F.adaptive_avg_pool2d(y, 1).squeeze(-1).squeeze(2)),
    "tokens": lambda m, y: m.linear(y.flatten(2).transpose(1, 2)),
    "heads": lambda m, y: m.conv(
        y.view(y.size(0), 2, 2, y.size(2), y.shape[3])
        .transpose(1, 2)
        .reshape(y.size(0), 4, y.size(2), y.shape[3])
    ),
    "heads-of-an-unknown-batch": lambda m, y: m.conv(
        y.view(-1, 2, 2, y.size(2), y.size(3)).transpose(1, 2).reshape(-1, 4, y.size(2), y.size(3))
    ),
    "unflatten": lambda m, y: m.conv(named(y.unflatten, 1, (2, -1)).transpose(1, 2).flatten(1, 2)),
    "reshape-to-an-unknown-batch": lambda m, y: m.linear(
        F.adaptive_avg_pool2d(y, (1, 1)).reshape(-1, 4)
    ),
}
NOT_DOWN: dict[str, Run] = {
    "view-to-an-unknown-batch": lambda m, y: m.conv(y.unsqueeze(1).view(-1, 4, 6, 6)),
    "heads-of-unknown-sizes": lambda m, y: m.conv(
        y.view(2, 2, 2, 6, 6).transpose(1, 2).reshape(2, 4, 6, 6)
    ),
    "mean-of-channels": lambda m, y: m.conv(y.mean(1, keepdim=True).expand(-1, 4, -1, -1)),
    "mean-of-all": lambda m, y: m.conv(y * 0 + y.mean()),
    "flatten-of-unknown-sizes": lambda m, y: m.flat(y.flatten(1)),
    "squeeze-of-unknown-sizes": lambda m, y: m.conv(y.squeeze()),
    "other-axis": lambda m, y: m.linear(y[:, :, :, :4]),
    "dtype": lambda m, y: m.linear(y.mean((2, 3), dtype=torch.float64)),
}


@pytest.mark.parametrize("name", [*UP, *NOT_UP])
def test_up(name: str) -> None:
    run = {**UP, **NOT_UP}[name]
    model = Model(
        lambda m, x: m.norm(run(m, m.known(x))),
        known=nn.BatchNorm2d(3),
        conv=nn.Conv2d(3, 6, 1),
        wide=nn.Conv2d(3, 24, 1),
        linear=nn.Linear(3, 6),
        norm=nn.BatchNorm2d(6),
    )
    _ = folded(ready(model), image())
    model.known.requires_grad_(False)
    assert (
        "norm" not in kept(ready(model), image()) if name in UP else "norm" in kept(model, image())
    )


def kept(model: Model, x: Tensor) -> list[str]:
    """Return the names of the batch norms that stay."""
    return [row.name for row in checked(model, x)[1].kept]


@pytest.mark.parametrize("name", [*DOWN, *NOT_DOWN])
def test_down(name: str) -> None:
    run = {**DOWN, **NOT_DOWN}[name]
    model = Model(
        lambda m, x: run(m, m.norm(x)),
        norm=nn.BatchNorm2d(4),
        conv=nn.Conv2d(4, 5, 1),
        single=nn.Conv2d(1, 5, 1),
        linear=nn.Linear(4, 5),
        flat=nn.Linear(144, 5),
    )
    assert folded(ready(model), image(4)) == (name in DOWN)


@pytest.mark.parametrize("is_nhwc", [True, False])
def test_a_flatten_of_known_sizes_repeats_in_blocks_or_in_turn(is_nhwc: bool) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = F.adaptive_avg_pool2d(m.norm(x), (2, 3))
        return m.head((y.permute(0, 2, 3, 1) if is_nhwc else y).flatten(1))

    model = Model(run, norm=nn.BatchNorm2d(4), head=nn.Linear(24, 3))
    assert folded(ready(model), image(4)) == 1


@pytest.mark.parametrize("is_uniform", [True, False])
def test_up_through_a_flatten_needs_one_coefficient_for_each_block(is_uniform: bool) -> None:
    size = 1 if is_uniform else 2
    model = Model(
        lambda m, x: m.norm(F.adaptive_avg_pool2d(m.conv(x), size).flatten(1)),
        conv=nn.Conv2d(3, 4, 1),
        norm=nn.BatchNorm1d(4 * size * size),
    )
    assert folded(ready(model), image()) == is_uniform


@pytest.mark.parametrize("arms", ["ab", "aa"])
def test_each_arm_of_a_stack_takes_its_place(arms: str) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        y = m.a(x).squeeze(1)
        return m.norm(torch.stack([y, m.b(x).squeeze(1) if arms == "ab" else y], 1))

    layers = {"a": nn.Conv2d(3, 1, 1), "b": nn.Conv2d(3, 1, 1), "norm": nn.BatchNorm2d(2)}
    assert settled(ready(Model(run, **layers)), image()) == (arms == "ab")


@pytest.mark.parametrize("dim", [1, 2])
def test_the_other_arms_of_a_stack_stay_as_they_are(dim: int) -> None:
    def run(m: Any, x: Tensor) -> Tensor:
        return m.head(torch.stack([x.sigmoid(), m.norm(x)], dim).flatten(1, 2))

    layers = {"norm": nn.BatchNorm2d(4), "head": nn.Conv2d(8, 5, 1)}
    assert settled(ready(Model(run, **layers)), image(4)) == 1


AXES: dict[str, Run] = {
    "mean": lambda m, x: m(x).mean((x.dim() - 2, x.dim() - 1)),
    "one-mean": lambda m, x: m(x).mean(x.ndim - 1),
    "chunk": lambda m, x: m(x).chunk(2, x.dim() - 1)[0],
    "permute": lambda m, x: m(x).permute(0, x.dim() - 1, 1, 2),
    "transpose": lambda m, x: m(x).transpose(1, x.dim() - 1),
    "unsqueeze": lambda m, x: m(x).unsqueeze(x.dim()),
    "squeeze": lambda m, x: m(x).squeeze(x.dim() - 1),
    "flatten": lambda m, x: m(x).flatten(x.dim() - 2),
    "cat": lambda m, x: torch.cat([m(x), m(x)], x.dim() - 3),
    "slice-of-a-shape": lambda m, x: m(x).reshape((*x.shape[0 : x.dim() - 3], -1)),
    "size-by-name": lambda m, x: m(x).view(x.size(dim=0), -1),
    "shape": lambda m, x: m(x).view(m(x).shape),
}


@pytest.mark.parametrize("name", AXES)
def test_axes_that_the_graph_computes_raise_nothing(name: str) -> None:
    model = Model(
        lambda m, x: AXES[name](lambda y: m.norm(m.conv(y)), x),
        conv=nn.Conv2d(3, 4, 1),
        norm=nn.BatchNorm2d(4),
    )
    folded(ready(model), image())


@pytest.mark.parametrize("method", ["flatten", "squeeze", "mean", "unsqueeze"])
def test_a_tensor_without_axes_raises_nothing(method: str) -> None:
    model = Model(
        lambda m, x: m.norm(m.conv(x)) * getattr(m.c, method)(0),
        conv=nn.Conv2d(3, 4, 1),
        norm=nn.BatchNorm2d(4),
        c=torch.zeros(()),
    )
    assert folded(ready(model), image()) == 1


@pytest.mark.parametrize("is_dtype", [True, False])
def test_a_view_by_one_value_proves_no_rank(is_dtype: bool) -> None:
    """``view(shape)`` and ``view(dtype)`` do not make one axis; axis 0 is the last one there."""

    def run(m: Any, x: Tensor) -> Tensor:
        y = m.first(x)
        y = y.view(torch.float64) if is_dtype else y.reshape(x.shape)
        return m.second((y * m.c).transpose(0, -1))

    model = Model(run, first=nn.Linear(4, 4), second=nn.Linear(4, 4), c=torch.zeros(4))
    folded(ready(model), noise(4, 4, 4))
