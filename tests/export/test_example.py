"""Inputs for a program that was loaded."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import RequestError
from bnfuse.export.example import example_for

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class Lookup(nn.Module):
    """A model with a nested argument of two dtypes."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(5, 4)

    def forward(self, both: tuple[Tensor, Tensor], scale: Tensor) -> Tensor:
        return self.table(both[0]) * both[1] + scale


class Named(nn.Module):
    """A model with an argument by name."""

    def forward(self, x: Tensor, *, scale: Tensor) -> Tensor:
        return x * scale


def loaded(folder: Path, model: nn.Module, *args: object, **options: object) -> nn.Module:
    """Export a model and load it."""
    bnfuse.export_pt2(model.eval(), folder / "net.pt2", args, verify=False, **options)  # type: ignore[arg-type]  # few
    return bnfuse.load(folder / "net.pt2")


def test_open_sizes_are_those_of_the_example(tmp_path: Path) -> None:
    shapes = {"input": {0: "batch", 2: "height"}}
    module = loaded(tmp_path, nn.Conv2d(3, 4, 3), torch.ones(5, 3, 9, 8), dynamic_shapes=shapes)
    (x,) = example_for(module)
    assert x.shape == (1, 3, 9, 8)
    assert module(x).shape == (1, 4, 7, 6)
    assert torch.equal(x, example_for(module)[0])
    assert not torch.equal(x, example_for(module, seed=1)[0])
    (x,) = example_for(module, [(2, 3, 11, 8)])
    assert x.shape == (2, 3, 11, 8)


def test_fixed_batch_stays(tmp_path: Path) -> None:
    module = loaded(tmp_path, nn.ReLU(), torch.ones(2, 3), dynamic_batch=False)
    assert example_for(module)[0].shape == (2, 3)


def test_dtypes_and_structure(tmp_path: Path) -> None:
    both = torch.ones(2, 3, dtype=torch.int64), torch.ones(2, 3, 4, dtype=torch.float32)
    module = loaded(tmp_path, Lookup(), both, torch.ones(2, 1, 1))
    (index, weight), scale = example_for(module)
    assert (index.dtype, weight.dtype, scale.dtype) == (torch.int64, torch.float32, torch.float32)
    assert index.tolist() == [[0, 0, 0]]
    assert module((index, weight), scale).shape == (1, 3, 4)


def test_what_cannot_be_made(tmp_path: Path) -> None:
    bnfuse.export_pt2(
        Named().eval(), tmp_path / "net.pt2", (torch.ones(2),), {"scale": torch.ones(2)}
    )
    module = bnfuse.load(tmp_path / "net.pt2")
    wanted = "the archive takes arguments by name (scale): load it in Python with bnfuse.load."
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        example_for(module)
    wanted = "the archive takes 2 tensors and 1 shapes are given: give the shape of each."
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        example_for(module, [(2,)])
