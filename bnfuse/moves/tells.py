"""What can tell how a value is laid out in memory, or hands it to code that may."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

from bnfuse.graph.hooks import is_hooked
from bnfuse.moves.drawing import draws_by_layout
from bnfuse.ops.calls import read_call
from bnfuse.ops.fresh import may_write

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph import Program

_ATEN = torch.ops.aten
_ORDER_METHODS = frozenset(
    {"as_strided", "as_strided_", "as_strided_scatter", "stride", "is_contiguous", "dim_order"}
)
_METHODS = _ORDER_METHODS | frozenset(
    {"view", "view_as", "unflatten", "set_", "resize_", "resize_as_", "data_ptr",
     "untyped_storage", "storage", "numpy", "__dlpack__", "storage_offset", "unfold"}
)  # fmt: skip
# Of an operator of ATen any overload, or the name of them all.
_ORDER_FUNCTIONS = frozenset(
    {torch.as_strided, torch.as_strided_copy, torch.as_strided_scatter, _ATEN.as_strided,
     _ATEN.as_strided_, _ATEN.as_strided_copy, _ATEN.as_strided_scatter, _ATEN.sym_stride}
)  # fmt: skip
_FUNCTIONS = _ORDER_FUNCTIONS | frozenset(
    {torch.unflatten, torch.view_as_complex, _ATEN.view, _ATEN.unflatten, _ATEN._unsafe_view,
     _ATEN.view_as_complex}
)  # fmt: skip
_ATTRIBUTES = ("shape", "ndim", "dtype", "device")


def tells_layout(program: Program, node: fx.Node) -> bool:
    """Whether a node may ask how its inputs are laid out, or hands them to who may.

    A view may be refused; code that no graph shows may take one, or ask for strides. Random numbers
    fall as a value lies.
    """
    if draws_by_layout(program, node):
        return True
    if node.op == "call_method":
        return node.target in _METHODS
    if node.op == "call_module":
        module = program.module(str(node.target))
        is_known = type(module).__module__.startswith(("torch.nn.", "bnfuse."))
        return is_hooked(module) or not is_known or isinstance(module, nn.Unflatten)
    if _called(node) in _FUNCTIONS or node.target is getattr:
        return node.target is not getattr or node.args[1] not in _ATTRIBUTES
    return may_write(program, node) and read_call(program, node) is None


def depends_on_layout(program: Program, node: fx.Node) -> bool:
    """Whether what a node returns is another for each layout of its inputs, and never refused."""
    if node.op == "call_method":
        is_asked = node.target in _ORDER_METHODS
    else:
        is_asked = node.op == "call_function" and _called(node) in _ORDER_FUNCTIONS
    return is_asked or draws_by_layout(program, node)


def _called(node: fx.Node) -> object:
    """Return what a node calls, without its overload."""
    is_overload = isinstance(node.target, torch._ops.OpOverload)
    return node.target.overloadpacket if is_overload else node.target  # type: ignore[union-attr]  # it is one
