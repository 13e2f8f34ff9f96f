"""Signals ``(n, c, l)`` that PyTorch's kernels read slowly where they are laid out by sample.

Elementwise operations, means and matrix products take a value as it lies, and pieces of it are
views; what goes over the samples one by one, such as a maximum, a norm or a concatenation, has
kernels for contiguous signals alone::

    conv ── relu ── conv          by sample throughout
    conv ── relu ── max_pool1d    a copy, or steps of c elements from each sample to the next
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnfuse.graph.readers import value_readers
from bnfuse.kernels import FusedLayer
from bnfuse.moves.anew import is_laid_out_anew
from bnfuse.ops.calls import read_call
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph import Program

_AS_IT_LIES = frozenset(
    {
        Kind.IDENTITY, Kind.DROPOUT, Kind.CAST, Kind.ADD, Kind.SUBTRACT, Kind.MULTIPLY,
        Kind.DIVIDE, Kind.NEGATE, Kind.MAXIMUM, Kind.CHOICE, Kind.FILL, Kind.ABSOLUTE,
        Kind.RECTIFIER, Kind.CLAMP, Kind.GATE, Kind.ACTIVATION, Kind.SPLIT, Kind.ITEM, Kind.SLICE,
        Kind.PERMUTATION, Kind.EXPAND,
    }
)  # fmt: skip
_ENDS = frozenset({Kind.MEAN, Kind.SUM, Kind.LINEAR})


def is_read_slowly(program: Program, node: fx.Node) -> bool:
    """Whether something reads a value, through elementwise operations, that has no kernel for it.

    Args:
        program: The program.
        node: A value laid out by sample.
    """
    pending, seen = [node], {node}
    while pending:
        for reader in value_readers(pending.pop()):
            if reader in seen or _ends(program, reader):
                continue
            if not _keeps(program, reader):
                return True
            seen.add(reader)
            pending.append(reader)
    return False


def _ends(program: Program, node: fx.Node) -> bool:
    """Whether a node reads a value as it lies, and its result lies its own way."""
    if node.op == "call_module" and isinstance(program.module(str(node.target)), FusedLayer):
        return True
    call = read_call(program, node)
    if call is not None and call.kind in _ENDS:
        return True
    return node.target != "contiguous" and is_laid_out_anew(program, node)


def _keeps(program: Program, node: fx.Node) -> bool:
    """Whether a node goes through a value in the order in which it lies, or returns a view."""
    call = read_call(program, node)
    return call.kind in _AS_IT_LIES if call is not None else _is_pointwise(node)


def _is_pointwise(node: fx.Node) -> bool:
    """Whether PyTorch calls an operation elementwise, by the name it has in ATen."""
    if node.op == "call_module":
        return False
    is_named = isinstance(node.target, str)
    name = str(node.target if is_named else getattr(node.target, "__name__", ""))
    packet = getattr(torch.ops.aten, name.partition(".")[0], None) if name else None
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return False
    overloads = packet.overloads()  # type: ignore[no-untyped-call]  # PyTorch's
    return any(torch.Tag.pointwise in getattr(packet, overload).tags for overload in overloads)
