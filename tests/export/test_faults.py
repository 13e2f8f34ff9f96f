"""An operator that cannot be written is named, with the layer it is in."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import ExportError
from bnfuse.export.faults import conversion_error

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor


class Bessel(nn.Module):
    """A layer that ONNX has no operator for."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.special.bessel_j0(x)


class Net(nn.Module):
    """A model with such a layer inside."""

    def __init__(self, odd: nn.Module) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))
        self.blocks = nn.ModuleList([nn.Identity(), odd])

    def forward(self, x: Tensor) -> Tensor:
        return self.blocks[1](self.stem(x))


REMEDY = (
    ": compute that with other operators, or write a .pt2 file with bnfuse.export_pt2, which takes "
    "all."
)


@pytest.mark.parametrize("is_optimized", [False, True])
def test_operator_without_translation(tmp_path: Path, is_optimized: bool) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"old")
    model = Net(Bessel()).eval()
    given = bnfuse.optimize(model) if is_optimized else model
    wanted = (
        "Net cannot be an ONNX file: torch.onnx has no translation for prims.bessel_j0.default, "
        f"called in blocks.1 (Bessel){REMEDY}"
    )
    with pytest.raises(ExportError, match=f"^{re.escape(wanted)}$"):
        bnfuse.export_onnx(given, path, (torch.randn(2, 4),))
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == {"net.onnx": b"old"}
    bnfuse.export_pt2(model, tmp_path / "net.pt2", (torch.randn(2, 4),))


def test_operator_in_the_models_own_forward(tmp_path: Path) -> None:
    wanted = (
        "Bessel cannot be an ONNX file: torch.onnx has no translation for prims.bessel_j0.default, "
        f"called in its own forward{REMEDY}"
    )
    with pytest.raises(ExportError, match=f"^{re.escape(wanted)}$"):
        bnfuse.export_onnx(Bessel().eval(), tmp_path / "net.onnx", (torch.randn(2, 4),))


def test_another_fault_is_told_in_its_own_words() -> None:
    found = str(conversion_error("Net", ValueError("first\nsecond")))
    assert found == (
        "torch.onnx cannot convert Net (ValueError: first): "
        "torch.onnx.export(model, args, dynamo=True, report=True) writes the details."
    )


def test_fault_at_a_node_names_it() -> None:
    graph = torch.fx.symbolic_trace(nn.ReLU()).graph

    def translate(node: torch.fx.Node) -> None:
        raise ValueError(f"no {node.op}")

    node = next(iter(graph.nodes))
    with pytest.raises(ValueError, match="no placeholder") as caught:
        translate(node)
    found = str(conversion_error("Net", caught.value))
    assert found.startswith("torch.onnx cannot convert Net (it stopped for input) (ValueError: no ")
