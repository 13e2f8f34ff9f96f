"""A small model and its file, exported once for all tests that only read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from tests.support import sequential

if TYPE_CHECKING:
    from bnfuse.export import OnnxExport


@dataclass(frozen=True, slots=True)
class Exported:
    """A model, an example of its input, and the file made of it."""

    model: nn.Module
    example: torch.Tensor
    done: OnnxExport


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """Return a small model exported with the options as they are."""
    layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1))
    model = sequential(*layers, nn.BatchNorm2d(2), nn.ReLU(), nn.Flatten()).float()
    example = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(3))
    path = tmp_path_factory.mktemp("exported") / "small.onnx"
    return Exported(model, example, bnfuse.export_onnx(model, path, (example,)))
