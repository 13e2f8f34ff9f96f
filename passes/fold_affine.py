"""Fold an inference batch norm into the linear operation that feeds it.

::

    x ── conv(W, b) ── bn(γ, β, μ, σ²) ── y        before
    x ── conv(W', b') ── y                         after

For each channel a batch norm is the affine ``y = s x + t`` with ``s = γ / sqrt(σ² + ε)`` and
``t = β − s μ``. Behind a convolution, a transposed convolution or a linear layer it acts on the
output alone, so that the weight takes ``s`` along its output channels and the bias becomes
``s b + t``. The products are taken in float64 and rounded once.

Declined when:

1. the batch norm uses the statistics of the batch, its statistics are computed or written by the
   forward, or give no finite affine;
2. hooks run between the two;
3. what feeds it is no linear operation, or one whose weight is computed or written;
4. something else reads the value between the two;
5. the batch norm's axis 1 is not the axis the operation writes its channels on. A linear layer
   writes on the last axis, an n-dimensional convolution on axis 1 of a value with n + 2
   dimensions. Equal sizes prove nothing: where the graph does not fix the number of dimensions, a
   guard is put in that fails rather than compute something else;
6. the dtypes differ so that folding would change the result's, or the new weights overflow;
7. a tensor of the two is missing or no plain dense one: sparse, quantized, or of a class that gives
   operations a meaning of its own.

Source: Ioffe and Szegedy, 2015, https://arxiv.org/abs/1502.03167, Algorithm 2, whose affine form is
moved into the weights; the axis condition is pytorch/ao#4116.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch

from bnfuse.affine import Affine, round_once
from bnfuse.graph import add_guard, assume_rank, proven_rank, value_readers
from bnfuse.ops import (
    Call,
    Kind,
    absorb_after,
    layer_name,
    output_channels,
    rank_with_channels_on_axis_1,
    read_call,
    write_weights,
)
from bnfuse.passes.base import Applied, Declined
from bnfuse.report import Decline, decline

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph import Program

_FOLDABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_HALVES = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, slots=True)
class Match:
    """A batch norm and what feeds it.

    Attributes:
        norm: The call of the batch norm.
        producer: The call that makes its input, where that is a known operation.
    """

    norm: Call
    producer: Call | None

    @property
    def name(self) -> str:
        """The qualified name of the batch norm."""
        return self.norm.name

    @property
    def layers(self) -> tuple[str, ...]:
        """The batch norm and the layer it would be folded into."""
        return (self.name,) if self.producer is None else (self.name, self.producer.name)

    @property
    def linear(self) -> Call:
        """The linear operation that feeds the batch norm.

        Raises:
            LookupError: There is none; the match is one to decline.
        """
        if self.producer is None or not self.producer.kind.is_linear:
            raise LookupError(f"{self.name} is not fed by a linear operation")
        return self.producer


@dataclass(frozen=True, slots=True)
class FoldAffine:
    """The pass; its algebra is in the description of this module."""

    name: ClassVar[str] = "fold-affine"

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the batch norm called at ``node`` and what feeds it."""
        norm = read_call(program, node)
        if norm is None or norm.kind is not Kind.BATCH_NORM:
            return None
        return Match(norm, read_call(program, norm.input))

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:
        """Return why the batch norm has to stay, or None."""
        return (
            _norm_obstacle(program, match.norm)
            or _producer_obstacle(program, match)
            or _axis_obstacle(program, match)
            or _dtype_obstacle(match)
        )

    def rewrite(self, program: Program, match: Match) -> Applied | Declined:
        """Write the folded weights and let every reader of the norm read the producer."""
        norm, linear = match.norm, match.linear
        weight, bias = absorb_after(linear, _affine_of(norm))
        new_weight, new_bias = round_once(weight, linear.weight), round_once(bias, linear.weight)
        if new_weight is None or new_bias is None:
            reason = decline("overflow", norm.name, linear.name)
            return Declined(norm.name, norm.node.name, reason)
        if proven_rank(program, norm.node) is None:
            _guard_rank(program, match)
        into = write_weights(program, linear, new_weight, new_bias)
        norm.node.replace_all_uses_with(linear.node)
        program.erase(norm.node)
        extra = 0 if into == linear.name else new_weight.nbytes
        return Applied(norm.name, norm.node.name, into, extra)


def _norm_obstacle(program: Program, norm: Call) -> Decline | None:
    """Return why the batch norm is no constant affine, or None."""
    if norm.odd:
        return decline("odd-constants", norm.name, ", ".join(norm.odd))
    if norm.computed:
        return decline("computed-constants", norm.name, ", ".join(norm.computed))
    if norm.options["training"]:
        return decline("training-mode", norm.name)
    if norm.hooked:
        return decline("hooked", norm.name)
    if norm.tensor("running_mean") is None or norm.tensor("running_var") is None:
        return decline("batch-statistics", norm.name)
    if written := _written(program, norm):
        return decline("written-constants", norm.name, written)
    if not _affine_of(norm).is_finite:
        return decline("not-finite", norm.name)
    return None


def _producer_obstacle(program: Program, match: Match) -> Decline | None:
    """Return why what feeds the batch norm cannot absorb it, or None."""
    producer = match.producer
    if producer is None or not producer.kind.is_linear:
        facts = _described(program, match.norm.input)
        return decline("no-linear-producer", match.name, facts)
    if producer.hooked:
        return decline("hooked", producer.name)
    if producer.odd:
        return decline("odd-constants", match.name, ", ".join(producer.odd))
    if producer.computed:
        return decline("computed-constants", producer.name, ", ".join(producer.computed))
    if written := _written(program, producer):
        return decline("written-constants", producer.name, written)
    others = [r.name for r in value_readers(producer.node) if r is not match.norm.node]
    if others:
        facts = f"{producer.name}, is also read by {', '.join(others)}"
        return decline("several-readers", match.name, facts)
    return None


def _axis_obstacle(program: Program, match: Match) -> Decline | None:
    """Return why the two act on different axes, or None."""
    rank = proven_rank(program, match.norm.node)
    same_axis = rank in (None, rank_with_channels_on_axis_1(match.linear))
    if (
        not same_axis
        or match.name in program.other_axis
        or _affine_of(match.norm).channels != output_channels(match.linear)
    ):
        return decline("other-axis", match.name, match.linear.name)
    return None


def _dtype_obstacle(match: Match) -> Decline | None:
    """Return why folding would change the dtype of the result, or None.

    Half-precision values with float32 statistics stay in half precision in the batch norm itself.
    """
    made = match.linear.weight.dtype
    read = {constant.tensor.dtype for constant in match.norm.owned.values()}
    if made in _FOLDABLE and (read == {made} or (made in _HALVES and read == {torch.float32})):
        return None
    facts = f"{made} and {', '.join(sorted(map(str, read)))}"
    return decline("mixed-dtype", match.name, facts)


def _affine_of(norm: Call) -> Affine:
    """Return the affine of a batch norm that has running statistics."""
    statistics = norm.owned
    return Affine.of_batch_norm(
        statistics["running_mean"].tensor,
        statistics["running_var"].tensor,
        norm.tensor("weight"),
        norm.tensor("bias"),
        float(norm.options["eps"]),
    )


def _written(program: Program, call: Call) -> str:
    """Return which tensors of a call the forward may write, as a list in words."""
    return ", ".join(c.path for c in call.owned.values() if c.path in program.written)


def _guard_rank(program: Program, match: Match) -> None:
    """Make the graph refuse values whose axis 1 is not the channel axis."""
    linear = match.linear
    rank = rank_with_channels_on_axis_1(linear)
    with program.graph.inserting_before(linear.node):
        guard = add_guard(program.graph, assume_rank, linear.input, rank, match.name)
    linear.node.replace_input_with(linear.input, guard)


def _described(program: Program, node: fx.Node) -> str:
    """Return what a node computes, in words a user of the model knows."""
    if node.op == "placeholder":
        return f"the input {node.target!r}"
    if node.op == "call_module":
        return f"{node.target} ({type(program.module(str(node.target))).__name__})"
    return f"{getattr(node.target, '__name__', node.target)} in {layer_name(node)}"
