"""What can tell how a value is laid out in memory, or hands it to code that may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from bnfuse.graph.hooks import is_hooked
from bnfuse.ops.calls import read_call
from bnfuse.ops.fresh import may_write

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph import Program

_ATEN = torch.ops.aten
_METHODS = frozenset(
    {"view", "view_as", "unflatten", "as_strided", "as_strided_", "set_", "resize_", "resize_as_",
     "data_ptr", "untyped_storage", "storage", "numpy", "stride", "is_contiguous", "__dlpack__",
     "storage_offset", "unfold"}
)  # fmt: skip
_FUNCTIONS = frozenset(
    {torch.unflatten, torch.as_strided, torch.view_as_complex, _ATEN.view.default,
     _ATEN.view.dtype, _ATEN.unflatten.int, _ATEN.as_strided.default, _ATEN._unsafe_view.default,
     _ATEN.sym_stride.int}
)  # fmt: skip
_ATTRIBUTES = ("shape", "ndim", "dtype", "device")


def tells_layout(program: Program, node: fx.Node) -> bool:
    """Whether a node may ask how its inputs are laid out, or hands them to who may.

    A view may be refused; code that no graph shows may take one, or ask for strides.
    """
    if node.op == "call_method":
        return node.target in _METHODS
    if node.op == "call_module":
        module = program.module(str(node.target))
        is_known = type(module).__module__.startswith(("torch.nn.", "bnfuse."))
        return is_hooked(module) or not is_known or isinstance(module, nn.Unflatten)
    if node.target in _FUNCTIONS or node.target is getattr:
        return node.target is not getattr or node.args[1] not in _ATTRIBUTES
    return may_write(program, node) and read_call(program, node) is None
