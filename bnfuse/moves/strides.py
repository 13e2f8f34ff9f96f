"""Where the memory layout of a norm's result matters to what reads it.

A norm returns a tensor of its own, laid out densely. What stands before it may be a view, such as
a transposed or sliced tensor; read in the norm's place it is laid out otherwise::

    y = norm(x.transpose(1, 2)); y.view(n, -1)            fails on x.transpose(1, 2)
    y = norm(x.transpose(1, 2)); y.flatten(1).mul_(2)     writes to a copy of x.transpose(1, 2)

The first takes ``x.transpose(1, 2).contiguous()``; behind the second the norm stays.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnfuse.graph.readers import value_readers, writes_in_place
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
    """Whether something writes into a value through what may be a view of it or a copy."""
    return any(
        is_behind_copy and may_write(program, reader)
        for reader, is_behind_copy in _aliases(program, node)
    )


def is_viewed(program: Program, node: fx.Node) -> bool:
    """Whether a view of a value is taken that depends on its layout."""
    return any(
        reader.target in _FUNCTIONS or (reader.op == "call_method" and reader.target in _VIEWS)
        for reader, _ in _aliases(program, node)
    )


def _aliases(program: Program, node: fx.Node) -> list[tuple[fx.Node, bool]]:
    """Return all that reads a value or a view of it, and whether a copy may lie between."""
    found: dict[tuple[fx.Node, bool], None] = {}
    pending = [(node, False)]
    while pending:
        current, is_behind_copy = pending.pop()
        for reader in value_readers(current):
            if (reader, is_behind_copy) in found:
                continue
            found[reader, is_behind_copy] = None
            if makes_new(program, reader) and not writes_in_place(reader):
                continue
            call = read_call(program, reader)
            pending.append((reader, is_behind_copy or call is None or call.kind in _MAY_COPY))
    return list(found)
