"""The table of rules: how an affine moves past each kind of operation, up and down."""

from __future__ import annotations

from bnfuse.moves.arithmetic import down_through_arithmetic, up_through_arithmetic
from bnfuse.moves.layout import down_through_layout, up_through_layout
from bnfuse.moves.pooling import down_unchanged, up_unchanged
from bnfuse.moves.reductions import down_through_reduction, up_through_reduction
from bnfuse.moves.step import Rule
from bnfuse.moves.weights import (
    down_into_linear,
    down_into_norm,
    up_into_linear,
    up_into_norm,
)
from bnfuse.ops.table import Kind

_LINEAR = (Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.LINEAR)
_ARITHMETIC = (Kind.ADD, Kind.SUBTRACT, Kind.MULTIPLY, Kind.DIVIDE, Kind.NEGATE)
_LAYOUT = (
    Kind.CONCATENATION, Kind.SPLIT, Kind.ITEM, Kind.PERMUTATION, Kind.RESHAPE,
    Kind.STACK, Kind.PIXEL_SHUFFLE, Kind.PIXEL_UNSHUFFLE, Kind.UNFOLD, Kind.CHANNEL_SHUFFLE,
    Kind.FLIP, Kind.ROLL, Kind.SLICE, Kind.REPETITION, Kind.REPEAT, Kind.EXPAND,
)  # fmt: skip
_UNCHANGED = (
    Kind.COPY, Kind.RECTIFIER, Kind.AVERAGE_POOL, Kind.ADAPTIVE_AVERAGE, Kind.MAX_POOL,
    Kind.RESIZE, Kind.PADDING,
)  # fmt: skip

RULES: dict[Kind, Rule] = {
    **dict.fromkeys(_LINEAR, Rule(up_into_linear, down_into_linear)),
    Kind.BATCH_NORM: Rule(up_into_norm, down_into_norm),
    **dict.fromkeys(_ARITHMETIC, Rule(up_through_arithmetic, down_through_arithmetic)),
    **dict.fromkeys(_LAYOUT, Rule(up_through_layout, down_through_layout)),
    **dict.fromkeys((Kind.MEAN, Kind.SUM), Rule(up_through_reduction, down_through_reduction)),
    **dict.fromkeys(_UNCHANGED, Rule(up_unchanged, down_unchanged)),
}
"""Kinds that are not here let nothing through."""
