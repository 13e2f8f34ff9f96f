"""Where the memory layout of a norm's result matters to what reads it.

A norm returns a tensor of its own, laid out densely. What stands before it may be a view, such as
a transposed or sliced tensor; read in the norm's place it is laid out otherwise::

    y = norm(x.transpose(1, 2)); y.view(n, -1)            fails on x.transpose(1, 2)
    y = norm(x.transpose(1, 2)); y.flatten(1).mul_(2)     writes to a copy of x.transpose(1, 2)
    y = norm(x.transpose(1, 2)); z = y.flatten(1); y += 1 leaves a copy of x.transpose(1, 2) as z

    y = norm(x.transpose(1, 2)).relu(); y.view(n, -1)     fails likewise

Where only a view, or what is computed from it, would show that, the value is copied into the layout
that the norm gives it (``bnfuse.graph.layouts``). Where a write into the result itself would be
lost, the norm stays.

Source: ``reorder_dimensions`` in ``aten/src/ATen/TensorIterator.cpp``: all that goes element by
element keeps the order of the axes, that of the first operand which has one.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch import fx

from bnfuse.graph.guards import add_guard
from bnfuse.graph.layouts import laid_out_by_norm
from bnfuse.graph.readers import value_readers, writes_in_place
from bnfuse.kernels import FusedLayer
from bnfuse.moves.anew import is_laid_out_anew
from bnfuse.moves.tells import tells_layout
from bnfuse.ops.calls import read_call
from bnfuse.ops.fresh import makes_new, may_write
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from bnfuse.graph import Program
    from bnfuse.ops import Call

_MAY_COPY = (Kind.RESHAPE, Kind.COPY)


def is_laid_out_alike(program: Program, call: Call, value: fx.Node) -> bool:
    """Whether a value is a dense tensor of its own, laid out as an affine of it is."""
    if writes_in_place(call.node) or is_contiguous(program, value):
        return True
    if call.kind is not Kind.BATCH_NORM:  # arithmetic keeps the order of the axes
        return makes_new(program, value) and not constant_leads(program, call)
    return not _is_of_instances(call) and program.formats.of(value)


def _is_of_instances(call: Call) -> bool:
    """Whether a norm is one of instances, which drops the order of channels last."""
    return "instance" in call.spelling.lower()


def is_contiguous(program: Program, node: fx.Node) -> bool:
    """Whether a value is known to be contiguous: what a linear layer returns, or a view of it."""
    call = read_call(program, node)
    while call is not None and call.kind is Kind.RESHAPE and not call.hooked:
        call = read_call(program, call.input)
    return call is not None and call.kind is Kind.LINEAR and not call.hooked


def constant_leads(program: Program, call: Call) -> bool:
    """Whether the result of arithmetic is laid out as its first operand, a constant, is."""
    first = call.operands[0]
    tensor = None
    if isinstance(first, fx.Node) and first.op == "get_attr":
        tensor = program.tensor(str(first.target))
    return tensor is not None and sum(size > 1 for size in tensor.shape) > 1


def copied(program: Program, call: Call, value: fx.Node) -> fx.Node:
    """Put a copy of a value into the graph, laid out as an affine of it is, and return it."""
    if call.kind is not Kind.BATCH_NORM:
        return program.graph.call_method("clone", (value,))
    if _is_of_instances(call):
        return program.graph.call_method("contiguous", (value,))
    return add_guard(program.graph, laid_out_by_norm, value)


def loses_a_write(program: Program, node: fx.Node) -> bool:
    """Whether something is read after a write that it shows only if it is no copy.

    What may be a view or a copy, as the value is laid out, divides what reads the value from what
    reads that.
    """
    readers = _aliases(program, node)
    writes = [(reader, source) for reader, source in readers if may_write(program, reader)]
    return any(
        reader > write and other is not source and (other is None or other < write)
        for write, source in writes
        for reader, other in readers
    )


def is_told_apart(program: Program, call: Call) -> bool:
    """Whether no copy can take the place of an affine that is laid out otherwise than its input."""
    if loses_a_write(program, call.node):
        return True
    is_norm = call.kind is Kind.BATCH_NORM
    return not is_norm and constant_leads(program, call) and layout_matters(program, call.node)


def is_laid_out_as_term(program: Program, first: fx.Node, made: Call) -> bool:
    """Whether what a sum becomes is laid out as the sum is.

    A sum is laid out as its first term. A layer that does the work of the terms lays out its result
    as that is laid out if the term was made by such a layer as well, or is contiguous or channels
    last; but in float64 a convolution over three axes is contiguous always.

    Args:
        program: The program.
        first: The first term.
        made: The layer that is to do the work.
    """
    call = read_call(program, first)
    if call is not None and call.kind is made.kind and not call.hooked:
        return True
    weight = made.tensor("weight")
    is_volume = weight is not None and weight.ndim == 5
    return not is_volume and program.formats.of(first)


def shows_layout(program: Program, node: fx.Node) -> bool:
    """Whether it can be told how a value is laid out, by what reads it or reads that."""
    return loses_a_write(program, node) or layout_matters(program, node)


def layout_matters(program: Program, node: fx.Node) -> bool:
    """Whether it can be told how a value is laid out: by who asks, or by a write, of what it is in.

    What is computed from the value may be laid out as it is.
    """
    heirs = _heirs(program, node)
    readers = (reader for value in (node, *heirs) for reader in value.users)
    return any(tells_layout(program, reader) for reader in readers) or any(
        returns_own(program, heir) and loses_a_write(program, heir) for heir in heirs
    )


def _heirs(program: Program, node: fx.Node) -> list[fx.Node]:
    """Return the values whose layout may depend on that of a value, itself not included."""
    found: dict[fx.Node, None] = {}
    pending = [node]
    while pending:
        for reader in value_readers(pending.pop()):
            if reader not in found and not is_laid_out_anew(program, reader):
                found[reader] = None
                pending.append(reader)
    return list(found)


def returns_own(program: Program, node: fx.Node) -> bool:
    """Whether a node's value shares memory with nothing before it, as that of a fused layer."""
    module = program.module(str(node.target)) if node.op == "call_module" else None
    return isinstance(module, FusedLayer) or makes_new(program, node)


def _may_copy(program: Program, node: fx.Node) -> bool:
    """Whether a node may return a view of what it reads, or a copy, as that is laid out."""
    call = read_call(program, node)
    return call is None or call.kind in _MAY_COPY


def _aliases(program: Program, node: fx.Node) -> list[tuple[fx.Node, fx.Node | None]]:
    """Return all that reads a value or what may be a view of it, each with the last of those."""
    found: dict[tuple[fx.Node, fx.Node | None], None] = {}
    pending: list[tuple[fx.Node, fx.Node | None]] = [(node, None)]
    while pending:
        current, source = pending.pop()
        for reader in value_readers(current):
            if (reader, source) in found:
                continue
            found[reader, source] = None
            if not returns_own(program, reader) or writes_in_place(reader):
                pending.append((reader, reader if _may_copy(program, reader) else source))
    return list(found)
