"""What is proven about shapes holds, for each operation, and does not guess."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from tests.ops.proofs import numbers, proven_of_output

if TYPE_CHECKING:
    from collections.abc import Callable

Run = tuple["Callable[[Any, Any], object]", "tuple[int | None, ...] | None"]
N = None
CASES: dict[str, Run] = {
    "convolution": (lambda m, x: m.conv(x), (N, 6, N, N)),
    "transposed": (lambda m, x: m.up(x), (N, 8, N, N)),
    "linear": (lambda m, x: m.linear(x), (N, 4, N, 5)),
    "activation": (lambda m, x: x.softmax(1).clamp(0, 6), (N, 4, N, N)),
    "broadcast bound": (lambda m, x: x.clamp(min=m.bound), N),
    "computed bound": (lambda m, x: x.clamp(max=x.size(0)), N),
    "plus": (lambda m, x: x + torch.sigmoid(x), (N, 4, N, N)),
    "broadcast": (lambda m, x: m.bound - x, (2, N, 4, N, N)),
    "gate": (lambda m, x: x * F.adaptive_avg_pool2d(x, 1), (N, 4, N, N)),
    "with a number": (lambda m, x: 1 - x / 2, (N, 4, N, N)),
    "with a size": (lambda m, x: x + x.size(1), N),
    "adaptive": (lambda m, x: F.adaptive_avg_pool2d(x, (N, 3)), (N, 4, N, 3)),
    "pool": (lambda m, x: F.max_pool2d(x, 2), (N, 4, N, N)),
    "pool with places": (lambda m, x: F.max_pool2d(x, 2, return_indices=True)[0], N),
    "mean": (lambda m, x: x.mean((-2, 3)), (N, 4)),
    "mean kept": (lambda m, x: x.mean(1, keepdim=True), (N, 1, N, N)),
    "mean of all": (lambda m, x: x.mean(), N),
    "mean computed": (lambda m, x: x.mean(dim=[x.dim() - 1]), (N, N, N)),
    "permutation": (lambda m, x: x.permute(0, 2, 3, -3), (N, N, N, 4)),
    "permutation as tuple": (lambda m, x: torch.permute(x, (1, 0, 2, 3)), (4, N, N, N)),
    "transposition": (lambda m, x: x.transpose(-1, 1), (N, N, N, 4)),
    "chunk": (lambda m, x: x.chunk(3, 1)[1], (N, 2, N, N)),
    "chunk from the back": (lambda m, x: x.chunk(2, 1)[-1], (N, 2, N, N)),
    "split with a rest": (lambda m, x: x.split(3, 1)[1], (N, 1, N, N)),
    "split by sizes": (lambda m, x: torch.split(x, [1, 3], 1)[1], (N, 3, N, N)),
    "split computed": (lambda m, x: x.split(2, x.dim() - 3)[0], (N, N, N, N)),
    "unbind": (lambda m, x: x.unbind(-3)[2], (N, N, N)),
    "layer called split": (lambda m, x: m.split(x)[0], N),
    "concatenation": (lambda m, x: torch.cat([m.conv(x), x], 1), (N, 10, N, N)),
    "concatenation of rows": (lambda m, x: torch.cat([x, x], dim=-1), (N, 4, N, N)),
    "concatenation with nothing": (lambda m, x: torch.cat([m.none, x], 1), (N, 4, N, N)),
    "slices": (lambda m, x: x[:, 1:3], (N, N, N, N)),
    "new and taken axes": (lambda m, x: x[:, None, 0], (N, N, N, N)),
    "flag as index": (lambda m, x: x[:, True], N),
    "flatten": (lambda m, x: x.flatten(-2), (N, 4, N)),
    "flatten in front": (lambda m, x: x.flatten(0, 1), (N, N, N)),
    "flatten computed": (lambda m, x: x.flatten(x.dim() - 2), N),
    "new axis": (lambda m, x: x.unsqueeze(-1), (N, 4, N, N, 1)),
    "new axis computed": (lambda m, x: x.unsqueeze(x.dim() - 1), (N,) * 5),
    "squeeze": (lambda m, x: x.mean((2, 3), keepdim=True).squeeze(-1), (N, 4, 1)),
    "squeeze of all": (lambda m, x: x.mean((2, 3), keepdim=True).squeeze(), N),
    "groups": (lambda m, x: x.view(x.size(0), 2, 2, -1), (N, 2, 2, N)),
    "groups by arithmetic": (
        lambda m, x: x.view(x.size(0), x.size(1) // 2, 2, x.size(2), x.size(3)),
        (N, 2, 2, N, N),
    ),
    "unflatten": (lambda m, x: x.unflatten(1, (2, -1)), (N, 2, 2, N, N)),
    "unflatten a batch": (lambda m, x: torch.unflatten(x, 0, (1, -1)), (N,) * 5),
    "unflatten to a shape": (lambda m, x: x.unflatten(1, x.shape[1:2]), N),
    "whole shape": (lambda m, x: x.flatten(1).view(x.shape), (N, 4, N, N)),
    "whole size": (lambda m, x: x.flatten(1).reshape(m.split(x).size()), (N, 4, N, N)),
    "part of a shape": (lambda m, x: x.view(x.shape[:2] + (-1,)), N),  # noqa: RUF005 - no proxy unpacks
    "computed part": (lambda m, x: x.new_zeros(x.shape[: x.dim() - 2]), N),
    "like another": (lambda m, x: x.flatten(1).view_as(x), (N, 4, N, N)),
    "other dtype": (lambda m, x: x.view(torch.int32), N),
    "shuffle": (lambda m, x: F.channel_shuffle(x, 2).flip(1), (N, 4, N, N)),
    "pixel shuffle": (lambda m, x: F.pixel_shuffle(x, 2), (N, 1, N, N)),
    "pixel unshuffle": (lambda m, x: F.pixel_unshuffle(x, 2), (N, 16, N, N)),
    "unfold": (lambda m, x: F.unfold(x, (2, 3)), (N, 24, N)),
    "unfold by a size": (lambda m, x: F.unfold(x, x.dim() - 2), (N, N, N)),
    "sum": (lambda m, x: x.sum((-2, 3)), (N, 4)),
    "stack": (lambda m, x: torch.stack([x, x.relu()], -1), (N, 4, N, N, 2)),
    "narrow": (lambda m, x: x.narrow(1, 1, 2), (N, 2, N, N)),
    "narrow computed": (lambda m, x: x.narrow(1, 0, x.dim()), (N, N, N, N)),
    "narrow from the back": (lambda m, x: torch.narrow(x, 1, -3, 2), (N, 2, N, N)),
    "index": (lambda m, x: x.index_select(1, m.index), (N, 3, N, N)),
    "index computed": (lambda m, x: x.index_select(1, m.index + 0), (N, N, N, N)),
    "axis computed": (lambda m, x: x.narrow(x.dim() - 3, 0, 2), (N, N, N, N)),
    "roll": (lambda m, x: x.roll(2, 1), (N, 4, N, N)),
    "repetition": (lambda m, x: x.repeat_interleave(3, 1), (N, 12, N, N)),
    "repetition of all": (lambda m, x: x.repeat_interleave(3), (N,)),
    "repetition computed": (lambda m, x: x.repeat_interleave(x.dim(), 1), (N, N, N, N)),
    "repeat": (lambda m, x: x.repeat(2, 1, 3, 1, 1), (2, N, 12, N, N)),
    "repeat computed": (lambda m, x: x.repeat(1, x.dim(), 1, 1), (N, N, N, N)),
    "repeat by a shape": (lambda m, x: x.repeat(x.shape), N),
    "expand": (lambda m, x: x.expand(3, -1, 4, -1, 6), (3, N, 4, N, 6)),
    "expand computed": (lambda m, x: x.expand(-1, x.size(1), x.size(2), -1), (N, N, N, N)),
    "expand to a shape": (lambda m, x: x.expand(x.shape), N),
    "resize": (lambda m, x: F.interpolate(x, scale_factor=2), (N, 4, N, N)),
    "padding": (lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 1)), (N, N, N, N)),
    "tokens": (lambda m, x: m.conv(x).flatten(2).transpose(1, 2), (N, N, 6)),
}


@pytest.mark.parametrize("batched", [False, True])
@pytest.mark.parametrize("name", CASES)
def test_what_is_proven_is_so(name: str, batched: bool) -> None:
    run, wanted = CASES[name]
    assert numbers(proven_of_output(run, batched=batched)) == wanted


def test_nothing_is_proven_where_a_value_gets_another_shape_in_place() -> None:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        y = x * 1
        y.unsqueeze_(0)
        return torch.relu(y)

    assert proven_of_output(run) is None


def test_an_unknown_size_is_the_same_everywhere() -> None:
    def run(m: Any, x: torch.Tensor) -> torch.Tensor:
        return torch.cat([x.flatten(2), torch.relu(x).flatten(2)], 1)

    shape = proven_of_output(lambda m, x: x.permute(0, 2, 3, 1).relu())
    assert shape is not None
    assert len({*shape}) == 4
    assert numbers(proven_of_output(run)) == (None, 8, None)
