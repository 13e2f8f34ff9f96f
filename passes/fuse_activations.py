"""Fuse a layer with the sum and the activation behind it into one call of a kernel.

::

    x ── conv ── + r ── relu ── y          before
    x, r ── conv + r, relu ── y            after

A 1-d, 2-d or 3-d convolution, a transposed 2-d one or a linear layer does the sum or the product
with a second value and the activation itself, on its way from the registers to memory.
``bnfuse.kernels`` has the kernels; on other devices, in a graph and under a gradient the same
operators run as before, one after another. What the layer returns is never read by anything else,
so nothing can tell.

Declined, silently, since an activation by itself is no mistake:

1. the value between them has other readers, or something asks for the shape of a sum's operand;
2. hooks run on the layer or on the activation, or the layer is called at two places;
3. its tensors are computed, written by the forward, or not plain; its padding is not zeros;
4. for a sum: the input of the layer may be written before the sum reads the result.

Source: the post-operations of oneDNN, https://uxlfoundation.github.io/oneDNN, attributes.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import fx

from bnfuse.graph import only_reader
from bnfuse.graph.readers import reads_metadata_only
from bnfuse.kernels import Epilogue, can_fuse, fuse
from bnfuse.ops import Call, Kind, read_call
from bnfuse.ops.activations import activation_at
from bnfuse.ops.fresh import may_write
from bnfuse.ops.odd import is_fixed
from bnfuse.passes import base
from bnfuse.passes.base import Applied

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.graph import Program
    from bnfuse.report import Decline

_BINARY = {Kind.ADD: "add", Kind.MULTIPLY: "mul"}
_IN_PLACE = {operator.iadd: "iadd", operator.imul: "imul", "add_": "iadd", "mul_": "imul"}
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)


@dataclass(frozen=True, slots=True, eq=False)
class Match(base.Match):
    """A layer and what follows it.

    Attributes:
        layer: The call of the layer.
        combined: The sum or the product with ``other``, or None.
        other: The second value, or None.
        activation: The call of the activation, or None.
        epilogue: What the layer is to do.
    """

    layer: Call
    combined: fx.Node | None
    other: fx.Node | None
    activation: fx.Node | None
    epilogue: Epilogue

    @property
    def name(self) -> str:
        """The qualified name of the layer."""
        return self.layer.name

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The operations that become one."""
        following = (self.combined, self.activation)
        return (self.layer.node, *(node for node in following if node is not None))


@dataclass(frozen=True, slots=True)
class FuseActivations:
    """The pass; what it does is in the description of this module."""

    name: ClassVar[str] = "fuse-activations"
    is_exact: ClassVar[bool] = True

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the layer that is called at ``node``, with what follows it."""
        layer = layer_at(program, node)
        if layer is None:
            return None
        combined, other, binary = _combined(program, layer)
        last = node if combined is None else combined
        following = only_reader(last)
        activation = None if following is None else activation_at(program, following)
        if following is None or not _reads_once(following, last):
            activation, following = None, None
        if activation is None and combined is None:
            return None
        epilogue = Epilogue(binary, activation)
        return Match(layer, combined, other, following if activation else None, epilogue)

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return None: what does not fuse is no match."""
        return None

    def rewrite(self, program: Program, match: Match) -> Applied:
        """Put the fused layer in the layer's place, and let it do what followed."""
        node = match.layer.node
        program.put_module(node, fuse(program.module(str(node.target)), match.epilogue))
        if match.combined is not None:
            match.combined.prepend(node)  # where its second value is there
            node.args = (match.layer.input, match.other)
        last = match.nodes[-1]
        outcome = Applied(_name_of(last), last.name, str(node.target))
        for gone in reversed(match.nodes[1:]):
            program.replace(gone, node)
            program.erase(gone)
        return outcome


def pack_layers(program: Program, is_skipped: Callable[[str], bool]) -> None:
    """Let layers with nothing to do behind them run by the same kernels, with packed weights.

    Args:
        program: The program.
        is_skipped: Whether a layer, given by name, is to be left alone.
    """
    program.refresh()
    for node in program.graph.nodes:
        layer = layer_at(program, node)
        if layer is not None and not is_skipped(layer.name):
            program.put_module(node, fuse(program.module(str(node.target)), Epilogue()))


def layer_at(program: Program, node: fx.Node) -> Call | None:
    """Return the call of a layer that can be fused, with plain tensors, alone at its place."""
    if node.op != "call_module" or len(node.args) != 1 or node.kwargs:
        return None
    if not can_fuse(program.module(str(node.target))):
        return None
    call = read_call(program, node)
    if call is None or not is_fixed(program, call) or call.tensor("weight") is None:
        return None
    if call.weight.dtype not in _DTYPES or not program.is_only_reader(node):
        return None
    return call


def _combined(program: Program, layer: Call) -> tuple[fx.Node | None, fx.Node | None, str]:
    """Return the sum or the product that reads a layer's result, its other operand, its name."""
    none = None, None, ""
    node = layer.node
    reader = only_reader(node)
    call = None if reader is None else read_call(program, reader)
    if reader is None or call is None or call.kind not in _BINARY:
        return none
    if layer.input in program.written_values and _is_written_between(program, node, reader):
        return none
    if any(reads_metadata_only(user, node) for user in node.users):
        return none  # a sum may be larger than its operand
    operands = list(call.operands)
    others = [one for one in operands if one is not node]
    if len(operands) != 2 or len(others) != 1 or len(reader.args) != 2 or reader.kwargs:
        return none
    other, in_place = others[0], _IN_PLACE.get(reader.target)
    if not isinstance(other, fx.Node) or other.op == "get_attr":
        return none
    if operands[0] is not node and (in_place or program.lost_writes):
        return none  # it writes over the other value, or may be laid out as that is
    return reader, other, in_place or _BINARY[call.kind]


def _is_written_between(program: Program, first: fx.Node, last: fx.Node) -> bool:
    """Whether anything may write between two operations."""
    node = first.next
    while node is not last:
        if may_write(program, node):
            return True
        node = node.next
    return False


def _reads_once(reader: fx.Node, value: fx.Node) -> bool:
    """Whether a value is the only one that a node reads."""
    return reader.all_input_nodes == [value]


def _name_of(node: fx.Node) -> str:
    return str(node.target) if node.op == "call_module" else node.name
