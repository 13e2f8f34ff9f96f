"""Clamps of the graph: their bounds, and how a call site gets bounds for each channel."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import Tensor

from bnfuse.affine import Bounds
from bnfuse.ops.calls import layer_name
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from bnfuse.graph.clamp import ChannelClamp
    from bnfuse.graph.program import Program
    from bnfuse.ops.calls import Call


def bounds_of(program: Program, call: Call) -> Bounds | None:
    """Return the bounds of a clamp or a plain rectifier, or None where they are not known.

    They are numbers, or the tensors of a ``ChannelClamp`` that no forward writes.
    """
    if call.kind is Kind.RECTIFIER:
        is_plain = "negative_slope" not in call.options and "weight" not in call.constants
        return Bounds.of(0.0, None) if is_plain else None
    if call.kind is not Kind.CLAMP:
        return None
    names = ("min", "max") if "min" in call.options else ("min_val", "max_val")
    bounds = [call.options[name] for name in names]
    if call.options.get("shift") is not None:
        return None
    is_written = any(f"{call.name}.{name}" in program.written for name in names)
    if is_written or not all(b is None or _is_known(b) for b in bounds):
        return None
    return Bounds.of(*bounds)


def _is_known(bound: object) -> bool:
    return isinstance(bound, int | float | Tensor) and not isinstance(bound, bool)


def write_clamp(program: Program, call: Call, clamp: ChannelClamp) -> None:
    """Let a call site call a clamp in the place of an activation, and read its input alone."""
    node = call.node
    if call.is_module:
        program.put_module(node, clamp)
    else:
        layer = layer_name(node)
        is_inside = layer != node.name and program.has(layer)
        path = program.place_module(f"{layer}.{node.name}" if is_inside else node.name, clamp)
        node.op, node.target = "call_module", path
        if node not in (called := program.index.at("call_module", path)):
            called.append(node)
    node.args, node.kwargs = (call.input,), {}
