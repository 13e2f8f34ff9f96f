"""Where the memory layout of a norm's result matters to what reads it.

A norm returns a tensor of its own, laid out densely. What stands before it may be a view, such as
a transposed or sliced tensor; read in the norm's place it is laid out otherwise::

    y = norm(x.transpose(1, 2)); y.view(n, -1)            fails on x.transpose(1, 2)
    y = norm(x.transpose(1, 2)); y.flatten(1).mul_(2)     writes to a copy of x.transpose(1, 2)
    y = norm(x.transpose(1, 2)); z = y.flatten(1); y += 1 leaves a copy of x.transpose(1, 2) as z

The first takes ``x.transpose(1, 2).contiguous()``; behind the others the norm stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnfuse.graph.readers import value_readers, writes_in_place
from bnfuse.kernels import FusedLayer
from bnfuse.ops.calls import read_call
from bnfuse.ops.fresh import makes_new, may_write
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph import Program
    from bnfuse.ops import Call

_MAY_COPY = (Kind.RESHAPE, Kind.COPY)
_VIEWS = frozenset({"view", "view_as", "unflatten"})
_FUNCTIONS = frozenset({torch.unflatten, torch.ops.aten.view.default})


def is_laid_out_alike(program: Program, call: Call, value: fx.Node) -> bool:
    """Whether a value is a dense tensor of its own, as an affine of it is."""
    if is_contiguous(program, value):
        return True
    is_of_instances = "instance" in call.spelling.lower()  # it drops the order of channels last
    return not is_of_instances and not _is_stacked(program, value) and makes_new(program, value)


def _is_stacked(program: Program, node: fx.Node) -> bool:
    """Whether a value is a stack, which has an order of its own where its arms have one."""
    call = read_call(program, node)
    return call is not None and call.kind is Kind.STACK


def is_contiguous(program: Program, node: fx.Node) -> bool:
    """Whether a value is known to be contiguous: what a linear layer returns, or a view of it."""
    call = read_call(program, node)
    while call is not None and call.kind is Kind.RESHAPE and not call.hooked:
        call = read_call(program, call.input)
    return call is not None and call.kind is Kind.LINEAR and not call.hooked


def loses_a_write(program: Program, node: fx.Node) -> bool:
    """Whether something writes into a value after what may be a view of it or a copy was taken.

    Written through that, or around it, the one and the other are the same for a view alone.
    """
    readers = _aliases(program, node)
    copies = [reader for reader in readers if _may_copy(program, reader)]
    writes = [reader for reader in readers if may_write(program, reader)]
    return bool(copies and writes) and min(copies) < max(writes)


def is_viewed(program: Program, node: fx.Node) -> bool:
    """Whether a view of a value is taken that depends on its layout."""
    return any(
        reader.target in _FUNCTIONS or (reader.op == "call_method" and reader.target in _VIEWS)
        for reader in _aliases(program, node)
    )


def returns_own(program: Program, node: fx.Node) -> bool:
    """Whether a node's value shares memory with nothing before it, as that of a fused layer."""
    module = program.module(str(node.target)) if node.op == "call_module" else None
    return isinstance(module, FusedLayer) or makes_new(program, node)


def _may_copy(program: Program, node: fx.Node) -> bool:
    """Whether a node may return a view of what it reads, or a copy, as that is laid out."""
    call = read_call(program, node)
    return call is None or call.kind in _MAY_COPY


def _aliases(program: Program, node: fx.Node) -> list[fx.Node]:
    """Return all that reads a value, a view of it, or what may be one."""
    found: dict[fx.Node, None] = {}
    pending = [node]
    while pending:
        for reader in value_readers(pending.pop()):
            if reader in found:
                continue
            found[reader] = None
            if not returns_own(program, reader) or writes_in_place(reader):
                pending.append(reader)
    return list(found)
