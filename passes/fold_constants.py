"""Compute once what a forward computes from its own weights at every call.

::

    w ── standardize ──┐
    x ──────────────── conv ── y        before
    x ── conv(w') ── y                  after

Whatever is made of parameters and buffers alone is the same at every call: standardized weights,
the scale and shift of a frozen batch norm, a hand-written ``gamma / sqrt(var + eps)``. It is
computed as the forward computes it, in the same dtype, and kept.

Declined, silently, where:

1. the forward may write what it is made of, or what is made of it, or returns it, or a view of it,
   to the caller, who may;
2. computing it draws random numbers, writes something, or fails;
3. it is much larger than what it is made of, such as an expanded tensor;
4. it is converted to a dtype: kept, it would follow ``model.half()``, against what the
   forward says.

Source: constant folding, Aho, Lam, Sethi and Ullman, Compilers, 2006, section 9.4.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import fx

from bnfuse.graph.readers import writes_in_place
from bnfuse.ops import layer_name
from bnfuse.ops.fresh import may_be_returned
from bnfuse.passes import base
from bnfuse.passes.base import Applied

if TYPE_CHECKING:
    from bnfuse.graph import Program
    from bnfuse.report import Decline

_MOST_GROWTH = 2
_FREE_ELEMENTS = 1 << 16
_MOST_NODES = 64
_OWNERS = frozenset({"torch", "_operator"})
_CONVERSIONS = frozenset({"to", "type", "type_as", "float", "double", "half", "bfloat16"})


@dataclass(frozen=True, slots=True, eq=False)
class Match(base.Match):
    """A value made of constants that something else reads.

    Attributes:
        node: The node that makes it.
        value: The tensor.
    """

    node: fx.Node
    value: torch.Tensor

    @property
    def name(self) -> str:
        """The qualified name of the layer that computes it."""
        return _layer(self.node)

    @property
    def nodes(self) -> tuple[fx.Node, ...]:
        """The operations that change."""
        return tuple(_in_order(self.node))


@dataclass(frozen=True, slots=True)
class FoldConstants:
    """The pass; what it does is in the description of this module."""

    name: ClassVar[str] = "fold-constants"
    is_exact: ClassVar[bool] = False

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the value computed at ``node`` if it is constant and read by what is not."""
        if not _may_compute(node) or not node.all_input_nodes or not _is_made_of_constants(node):
            return None
        if not _is_read_elsewhere(node) or node in program.written_values:
            return None
        if may_be_returned(program, node):
            return None
        try:
            with torch.no_grad(), torch.random.fork_rng(devices=[]):
                before = torch.get_rng_state()
                value, elements = _value_of(program, node)
                is_random = not torch.equal(before, torch.get_rng_state())
        except Exception:
            return None  # it is not constant, or the forward will say so itself
        is_plain = isinstance(value, torch.Tensor) and value.layout is torch.strided
        if is_random or not is_plain:
            return None
        if value.numel() > _MOST_GROWTH * elements + _FREE_ELEMENTS:
            return None
        return Match(node, value)

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return None: what is not constant is no match."""
        return None

    def rewrite(self, program: Program, match: Match) -> tuple[Applied, ...]:
        """Keep the value and let every reader read it; a row for each node that goes."""
        source = program.new_tensor(match.node, match.name, match.value.detach().clone())
        program.replace(match.node, source)
        gone = _erase_unread(program, match.node)
        return tuple(Applied(match.name, site, into=None) for site in gone)


class _NotConstantError(Exception):
    """A value is not the same at every call."""


def _layer(node: fx.Node) -> str:
    """Return the layer around a node; a parametrization counts as the layer it is of."""
    name = layer_name(node).partition(".parametrizations")[0]
    return "" if name == node.name else name


def _may_compute(node: fx.Node) -> bool:
    """Whether a node is a function of PyTorch, or a method of tensors, that writes nothing."""
    if node.op == "call_method":
        return not writes_in_place(node)
    if node.op != "call_function" or writes_in_place(node):
        return False
    owner = getattr(node.target, "__module__", None) or "torch"
    return str(owner).partition(".")[0] in _OWNERS


def _is_read_elsewhere(node: fx.Node) -> bool:
    """Whether anything reads a value that is not itself made of constants."""
    return any(not _may_compute(r) or not _is_made_of_constants(r) for r in node.users)


def _is_made_of_constants(node: fx.Node) -> bool:
    """Whether no input of the model stands behind a node."""
    pending, seen = [node], {node}
    while pending:
        current = pending.pop()
        if current.op == "get_attr":
            continue
        if not _may_compute(current) or len(seen) > _MOST_NODES:
            return False
        fresh = [source for source in current.all_input_nodes if source not in seen]
        seen.update(fresh)
        pending += fresh
    return True


def _value_of(program: Program, node: fx.Node) -> tuple[Any, int]:
    """Return a node's value, and how many elements it is made of.

    Raises:
        _NotConstantError: A tensor that the forward writes stands behind it, or none that it owns.
        Exception: Whatever computing it raises.
    """
    values: dict[fx.Node, Any] = {}
    elements = 0
    for current in _in_order(node):
        if current.op == "get_attr":
            tensor = program.tensor(str(current.target))
            if tensor is None or str(current.target) in program.written:
                raise _NotConstantError
            elements += tensor.numel()
            values[current] = tensor.detach().clone()  # so that a write shows, and is none
            continue
        if current in program.written_values or _converts(current):
            raise _NotConstantError
        args, kwargs = fx.node.map_arg((current.args, current.kwargs), values.__getitem__)
        values[current] = _computed(current, args, kwargs)
    for current, now in values.items():
        before = program.tensor(str(current.target)) if current.op == "get_attr" else None
        if before is not None and not torch.equal(now, before):
            raise _NotConstantError
    return values[node], elements


def _converts(node: fx.Node) -> bool:
    """Whether a node makes a tensor of a dtype that it names."""
    named = any(isinstance(value, torch.dtype) for value in (*node.args, *node.kwargs.values()))
    return named or (node.op == "call_method" and node.target in _CONVERSIONS)


def _computed(node: fx.Node, args: Any, kwargs: Any) -> Any:
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    function: Any = node.target
    return function(*args, **kwargs)


def _in_order(node: fx.Node) -> list[fx.Node]:
    """Return what stands behind a node and itself, each after what it is made of."""
    ordered: dict[fx.Node, None] = {}
    pending = [(node, False)]
    while pending:
        current, is_done = pending.pop()
        if is_done:
            ordered[current] = None
        elif current not in ordered:
            pending.append((current, True))
            pending += [(source, False) for source in current.all_input_nodes]
    return list(ordered)


def _erase_unread(program: Program, node: fx.Node) -> list[str]:
    """Remove a node that nothing reads, and those that only it read; return their names."""
    gone = []
    for current in reversed(_in_order(node)):
        if not current.users and current.op != "placeholder":
            program.graph.erase_node(current)
            gone.append(current.name)
    return gone
