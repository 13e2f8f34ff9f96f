"""What takes the place of a batch norm's result is laid out as that, as PyTorch does it."""

from __future__ import annotations

import copy
import io
import itertools

import pytest
import torch
from torch import Tensor, nn

import bnfuse
from bnfuse.graph.layouts import laid_out_by_norm
from tests.support import noise, ready

SIZES = {3: (2, 4, 6), 4: (2, 4, 4, 5), 5: (2, 3, 4, 4, 3)}


def orders(sizes: tuple[int, ...]) -> list[Tensor]:
    """Return values of these sizes with their axes in every order in memory, whole and as parts."""
    found = []
    for order in itertools.permutations(range(len(sizes))):
        back = [order.index(axis) for axis in range(len(sizes))]
        found.append(torch.zeros([sizes[axis] for axis in order]).permute(back))
        larger = torch.zeros([sizes[axis] + 1 for axis in order]).permute(back)
        found.append(larger[tuple(slice(size) for size in sizes)])
    return found


def steps(value: Tensor) -> tuple[int, ...]:
    """Return the strides that matter: those of axes with more than one element."""
    axes = zip(value.stride(), value.shape, strict=True)
    return tuple(stride for stride, size in axes if size > 1)


@pytest.mark.parametrize("rank", SIZES)
@pytest.mark.parametrize("is_narrow", [False, True])
def test_strides_are_those_of_a_batch_norm(rank: int, is_narrow: bool) -> None:
    sizes = (*SIZES[rank][:-1], 1) if is_narrow else SIZES[rank]
    moments = torch.zeros(sizes[1]), torch.ones(sizes[1])
    for value in orders(sizes):
        wanted = torch.nn.functional.batch_norm(value, *moments)
        assert steps(laid_out_by_norm(value)) == steps(wanted)


def test_what_is_laid_out_so_is_not_copied() -> None:
    for value in (noise(2, 3, 4, 5), noise(2, 3, 4, 5).to(memory_format=torch.channels_last)):
        assert laid_out_by_norm(value) is value


class Transposed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.norm = nn.Linear(5, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.linear(x).transpose(1, 2))
        return y.relu().view(y.shape[0], -1)


def test_it_stays_in_copies_and_vanishes_under_export() -> None:
    model, x = ready(Transposed()), noise(2, 6, 5)
    fused = bnfuse.optimize(model)
    file = io.BytesIO()
    torch.save(fused, file)
    file.seek(0)
    kept = torch.load(file, weights_only=False)
    for other in (fused, copy.deepcopy(fused), kept, bnfuse.optimize(fused)):
        assert isinstance(other, torch.fx.GraphModule)
        assert laid_out_by_norm in [node.target for node in other.graph.nodes]
        assert torch.allclose(other(x), model(x))
    exported = torch.export.export(fused, (x,))
    assert "laid_out" not in str(exported.graph)
    assert torch.allclose(exported.module()(x), model(x))
