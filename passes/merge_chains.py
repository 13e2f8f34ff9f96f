"""Merge two consecutive linear operations into one, where that is exact and less work.

::

    x ── conv 1×1 (W1, b1) ── conv 1×1 (W2, b2) ── y        before
    x ── conv 1×1 (W2 W1, W2 b1 + b2) ── y                  after

Two linear layers, or two convolutions without groups of which one is pointwise, are one;
``bnfuse.affine.merge`` has the algebra. It is done only where the one multiplies less than the two:
512 → 2048 → 512 channels fall to an eighth, 512 → 64 → 512 would rise fourfold.

Declined, silently, since two layers in a row are no mistake:

1. the value between them has other readers, or hooks run there, or the forward writes into the
   first one's input after that has read it;
2. their tensors are computed, written by the forward, or of different dtypes;
3. a zero padding of the second would have to be the first one's bias;
4. the product would multiply as much as the two, or more.

Source: associativity of the matrix product; the padding condition is that of an affine before a
zero-padded convolution.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, ClassVar

from torch import nn

from bnfuse.affine import as_float64, round_once, round_weight
from bnfuse.affine.branch import Branch
from bnfuse.affine.merge import chained
from bnfuse.graph import assume_rank, check_rank, only_reader
from bnfuse.ops import Call, Kind, read_call, write_weights
from bnfuse.ops.geometry import branch_of, write_geometry
from bnfuse.ops.odd import is_fixed
from bnfuse.passes import base
from bnfuse.passes.base import Applied, Declined
from bnfuse.report import decline

if TYPE_CHECKING:
    from torch import Tensor, fx

    from bnfuse.graph import Program
    from bnfuse.report import Decline


@dataclass(frozen=True, slots=True, eq=False)
class Match(base.PairMatch):
    """Two linear operations that become one: the second does the work of both.

    Attributes:
        merged: What it becomes.
    """

    merged: Branch


@dataclass(frozen=True, slots=True)
class MergeChains:
    """The pass; its algebra is in the description of this module."""

    name: ClassVar[str] = "merge-chains"
    is_exact: ClassVar[bool] = True

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the two operations, of which the second is called at ``node``."""
        second = read_call(program, node)
        first = None if second is None else read_call(program, second.input)
        if first is None or second is None or first.kind is not second.kind:
            return None
        if only_reader(first.node) is not node or not _others_ask_rank(first.node, node):
            return None
        if first.input in program.written_values:
            return None
        branches = _linear_pair(program, first, second)
        if branches is None or first.weight.dtype is not second.weight.dtype:
            return None
        merged = chained(*branches) if _is_less_work(*branches) else None
        return None if merged is None else Match(first, second, merged)

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return None: what does not merge is no match."""
        return None

    def rewrite(self, program: Program, match: Match) -> Applied | Declined:
        """Write the product into the second operation, which then reads the first one's input."""
        first, second, merged = match.first, match.second, match.merged
        exact = merged.weight.reshape(_shape(second, merged.weight))  # what is rounded remembers it
        weight = round_weight(exact, second.weight)
        bias = round_once(merged.bias, second.weight)
        if weight is None or bias is None:
            reason = decline("overflow", match.name, second.name)
            return Declined(match.name, first.node.name, reason)
        if second.kind is Kind.CONVOLUTION:
            write_geometry(program, second, merged)
        into = write_weights(program, second, weight, bias)
        if second.is_module:
            _write_channels(program.module(into), first)
        program.replace(first.node, first.input)
        program.erase(first.node)
        return Applied(match.name, first.node.name, into)


def _others_ask_rank(value: fx.Node, reader: fx.Node) -> bool:
    """Whether all but one reader of a value ask only for its rank, which its input has as well."""
    return all(
        user is reader
        or user.target in (check_rank, assume_rank)
        or (user.target is getattr and user.args[1:] == ("ndim",))
        for user in value.users
    )


def _linear_pair(program: Program, first: Call, second: Call) -> tuple[Branch, Branch] | None:
    """Return both operations as convolutions without groups; a linear layer has one position."""
    if first.kind is Kind.CONVOLUTION:
        one, other = branch_of(program, first), branch_of(program, second)
        return None if one is None or other is None else (one, other)
    if first.kind is not Kind.LINEAR:
        return None
    pair = _as_pointwise(program, first), _as_pointwise(program, second)
    return None if pair[0] is None or pair[1] is None else (pair[0], pair[1])


def _as_pointwise(program: Program, call: Call) -> Branch | None:
    if not is_fixed(program, call) or not call.weight.is_floating_point():
        return None
    weight, bias = as_float64(call.weight), call.tensor("bias")
    shift = weight.new_zeros(weight.shape[0]) if bias is None else as_float64(bias)
    return Branch(weight.unsqueeze(2), shift, (1,), (0,), (1,), 1)


def _is_less_work(first: Branch, second: Branch) -> bool:
    """Whether the product multiplies less, for each output position of the second operation.

    One of the kernels is pointwise, so that of the product has the size of the other.
    """
    before = first.weight.numel() * prod(second.stride) + second.weight.numel()
    merged = second.weight.shape[0] * first.weight.shape[1]
    return merged * prod(first.kernel) * prod(second.kernel) < before


def _shape(call: Call, weight: Tensor) -> tuple[int, ...]:
    """Return the shape of a weight as the operation keeps it."""
    return tuple(weight.shape[:2]) if call.kind is Kind.LINEAR else tuple(weight.shape)


def _write_channels(module: nn.Module, first: Call) -> None:
    """Let the layer say how many channels it reads now."""
    if isinstance(module, nn.Linear):
        module.in_features = first.weight.shape[1]
    elif isinstance(module, nn.modules.conv._ConvNd):
        module.in_channels = first.weight.shape[1]
