"""Which results are laid out in memory one way, however the inputs are."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnfuse.graph.readers import METADATA_METHODS
from bnfuse.ops.calls import read_call
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph import Program

_ATEN = torch.ops.aten
_IMAGE_AXES = ((2, 3), (3, 2), (-2, -1), (-1, -2))
_MATRIX_PRODUCTS = frozenset(
    {torch.matmul, torch.bmm, torch.mm, torch.addmm, torch.baddbmm, operator.matmul, "matmul",
     "bmm", "mm", "__matmul__", _ATEN.matmul.default, _ATEN.bmm.default, _ATEN.mm.default}
)  # fmt: skip


def is_laid_out_anew(program: Program, node: fx.Node) -> bool:
    """Whether the layout of a result does not depend on that of any input."""
    if node.op in ("placeholder", "get_attr"):
        return True
    if node.target in _MATRIX_PRODUCTS or node.target == "contiguous":
        return (not node.args[1:] and not node.kwargs) or node.target != "contiguous"
    if node.op == "call_method" and node.target in METADATA_METHODS:
        return True
    call = read_call(program, node)
    if call is None or call.hooked:
        return False
    if call.kind in (Kind.LINEAR, Kind.LAYER_NORM):
        return True
    if call.kind is Kind.ADAPTIVE_AVERAGE:
        return call.options["output_size"] in (1, (1, 1), [1, 1], (1, 1, 1), [1, 1, 1])
    return call.kind is Kind.MEAN and _averages_images(program, call.options["dim"])


def _averages_images(program: Program, axes: Any) -> bool:
    """Whether a mean over some axes leaves one number of each image, and there are only images."""
    is_spatial = isinstance(axes, list | tuple) and tuple(axes) in _IMAGE_AXES
    return is_spatial and not any(isinstance(m, nn.Conv3d) for m in program.root.modules())
