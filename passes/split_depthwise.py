"""Split a depthwise convolution with a channel multiplier into plain depthwise ones, for a file.

::

    x ── depthwise × m (w) ── conv (W) ── y                                before
    x ─┬─ depthwise (w[0::m]) ─┬─ concatenation ── conv (W[:, order]) ── y    after, m = 2
       └─ depthwise (w[1::m]) ─┘

A convolution with a group for each of its ``C`` channels that writes ``m C`` of them makes channel
``o`` of channel ``o // m``. Its channels ``j, j + m, j + 2 m, ...`` are a depthwise convolution,
for each ``j = 0 ... m - 1``. One after the other they stand in the order ``order[j C + c] = c m +
j``, and the convolution behind reads them in that order::

    sum_o W[k, o] y[o]  =  sum_j sum_c W[k, c m + j] y_j[c]

Nothing is multiplied that was not before. What is gained: ONNX Runtime has its fast kernels and its
blocked layout for plain depthwise convolutions, and takes such a one out of both. With 48 channels,
m = 2 and 7×7 taps the three convolutions take 0.5 of the time, with 40 channels and 3×3 taps 0.9;
with three channels, as those of an image, twice, so such stay.

Declined, silently, since the convolution is no mistake:

1. the value between them has other readers, or hooks run there;
2. their tensors are computed or written by the forward; padding is of another kind than zeros;
3. images alone: the two have two spatial axes, the second has no groups;
4. there are fewer than 16 channels, or more than 8 of one.

Source: ``core/optimizer/nchwc_transformer.cc`` of ONNX Runtime, whose convolutions with groups are
depthwise with ``m = 1``, or have whole blocks of channels in each group.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

import torch
from torch import nn

from bnfuse.affine import as_float64, as_parameter, round_once, round_weight
from bnfuse.graph import only_reader
from bnfuse.ops import read_call, write_weights
from bnfuse.ops.geometry import branch_of
from bnfuse.passes import base
from bnfuse.passes.base import Applied, Declined
from bnfuse.report import decline

if TYPE_CHECKING:
    from torch import Tensor, fx

    from bnfuse.affine.branch import Branch
    from bnfuse.graph import Program
    from bnfuse.report import Decline

_FEWEST_CHANNELS = 16
"""What one block of the blocked layout holds on processors with AVX-512; 8 on others."""
_LARGEST_MULTIPLIER = 8


@dataclass(frozen=True, slots=True, eq=False)
class Match(base.PairMatch):
    """A depthwise convolution with a multiplier, and the convolution behind it.

    Attributes:
        branch: The first in the form of the algebra.
    """

    branch: Branch


@dataclass(frozen=True, slots=True)
class SplitDepthwise:
    """The pass; its algebra is in the description of this module."""

    name: ClassVar[str] = "split-depthwise"
    is_exact: ClassVar[bool] = True

    def match(self, program: Program, node: fx.Node) -> Match | None:
        """Return the two convolutions, of which the first is called at ``node``."""
        first = read_call(program, node)
        branch = None if first is None else branch_of(program, first)
        if first is None or branch is None or not _is_multiplied(branch):
            return None
        reader = only_reader(node)
        second = None if reader is None else read_call(program, reader)
        behind = None if second is None else branch_of(program, second)
        if second is None or behind is None or second.input is not node or not _joins(behind):
            return None
        return Match(first, second, branch)

    def reason_to_decline(self, program: Program, match: Match) -> Decline | None:  # noqa: ARG002 - the signature is every pass's
        """Return None: what is not split is no match."""
        return None

    def rewrite(self, program: Program, match: Match) -> Applied | Declined:
        """Put the plain convolutions and their concatenation in the place of the first."""
        first, second, count = match.first, match.second, _multiplier(match.branch)
        made = [_piece(match, one, count) for one in range(count)]
        pieces = [piece for piece in made if piece is not None]
        exact = in_order_of_pieces(as_float64(second.weight), count)
        weight = round_weight(exact, second.weight)
        if weight is None or len(pieces) < count:
            return Declined(
                match.name, first.node.name, decline("overflow", match.name, match.name)
            )
        paths = [program.place_module(f"{first.name}_{n}", piece) for n, piece in enumerate(pieces)]
        with program.graph.inserting_before(first.node):
            values = [program.graph.call_module(path, (first.input,)) for path in paths]
            joined = program.graph.call_function(torch.cat, (values, -3))
        into = write_weights(program, second, weight, None)
        program.replace(first.node, joined)
        program.erase(first.node)
        return Applied(match.name, first.node.name, into)


def in_order_of_pieces(weight: Tensor, count: int) -> Tensor:
    """Return a weight ``(out, C · count, h, w)`` for input channels in the order of the pieces.

    >>> in_order_of_pieces(torch.arange(6).reshape(1, 6, 1, 1), 2).flatten().tolist()
    [0, 2, 4, 1, 3, 5]
    """
    by_channel = weight.reshape(len(weight), -1, count, *weight.shape[2:])
    return by_channel.transpose(1, 2).flatten(1, 2)


def _multiplier(branch: Branch) -> int:
    """Return how many channels the convolution makes of each; 0 if it is not depthwise."""
    read, written = branch.channels
    return written // read if branch.groups == read else 0


def _is_multiplied(branch: Branch) -> bool:
    return (
        1 < _multiplier(branch) <= _LARGEST_MULTIPLIER
        and branch.groups >= _FEWEST_CHANNELS
        and len(branch.kernel) == 2
        and branch.padding_mode == "zeros"
    )


def _joins(branch: Branch) -> bool:
    """Whether a convolution reads all channels of an image, which are on the axis before the two.

    Without a batch, or with a batch as its channels, one of other axes takes the same value.
    """
    return branch.groups == 1 and len(branch.kernel) == 2


def _piece(match: Match, one: int, count: int) -> nn.Conv2d | None:
    """Return the convolution that makes every ``count``-th channel from ``one`` on.

    None where it does not fit the dtype of the weight.
    """
    branch, like = match.branch, match.first.weight
    weight = round_weight(as_float64(branch.weight)[one::count], like)
    bias = round_once(branch.bias[one::count], like)
    has_bias = match.first.tensor("bias") is not None
    if weight is None or bias is None:
        return None
    piece = nn.Conv2d(
        branch.groups,
        branch.groups,
        branch.kernel,  # type: ignore[arg-type]  # two sizes, as _is_multiplied makes sure
        branch.stride,  # type: ignore[arg-type]  # likewise
        branch.padding,  # type: ignore[arg-type]  # likewise
        branch.dilation,  # type: ignore[arg-type]  # likewise
        branch.groups,
        bias=has_bias,
        device="meta",
    )
    piece.weight = as_parameter(weight)
    piece.bias = as_parameter(bias) if has_bias else None
    return piece.eval()
