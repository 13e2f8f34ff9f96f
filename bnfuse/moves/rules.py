"""The table of rules: how an affine moves past each kind of operation, up and down."""

from __future__ import annotations

from bnfuse.moves.activations import (
    down_into_softmax,
    down_through_absolute,
    down_through_gate,
    up_through_absolute,
    up_through_gate,
)
from bnfuse.moves.arithmetic import down_through_arithmetic, up_through_arithmetic
from bnfuse.moves.bounds import down_through_choice, up_through_choice
from bnfuse.moves.clamps import down_through_clamp
from bnfuse.moves.dtypes import down_through_cast, up_through_cast
from bnfuse.moves.layout import down_through_layout, up_through_layout
from bnfuse.moves.norms import up_into_embedding, up_into_own_affine
from bnfuse.moves.pooling import UNCHANGED, down_unchanged, up_unchanged
from bnfuse.moves.reductions import down_through_reduction, up_through_reduction
from bnfuse.moves.step import Rule, nothing_down, nothing_up
from bnfuse.moves.weights import (
    down_into_linear,
    down_into_norm,
    up_into_linear,
    up_into_norm,
)
from bnfuse.ops.table import Kind

_LINEAR = (Kind.CONVOLUTION, Kind.TRANSPOSED_CONVOLUTION, Kind.LINEAR)
_ARITHMETIC = (Kind.ADD, Kind.SUBTRACT, Kind.MULTIPLY, Kind.DIVIDE, Kind.NEGATE)
_CHOICES = (Kind.MAXIMUM, Kind.CHOICE, Kind.FILL)
_NORMS = (Kind.LAYER_NORM, Kind.GROUP_NORM, Kind.RMS_NORM)
_LAYOUT = (
    Kind.CONCATENATION, Kind.SPLIT, Kind.ITEM, Kind.PERMUTATION, Kind.RESHAPE,
    Kind.STACK, Kind.PIXEL_SHUFFLE, Kind.PIXEL_UNSHUFFLE, Kind.UNFOLD, Kind.CHANNEL_SHUFFLE,
    Kind.FLIP, Kind.ROLL, Kind.SLICE, Kind.REPETITION, Kind.REPEAT, Kind.EXPAND,
)  # fmt: skip
RULES: dict[Kind, Rule] = {
    **dict.fromkeys(_LINEAR, Rule(up_into_linear, down_into_linear)),
    Kind.BATCH_NORM: Rule(up_into_norm, down_into_norm),
    **dict.fromkeys(_ARITHMETIC, Rule(up_through_arithmetic, down_through_arithmetic)),
    **dict.fromkeys(_NORMS, Rule(up_into_own_affine, nothing_down)),
    Kind.EMBEDDING: Rule(up_into_embedding, nothing_down),
    **dict.fromkeys(_CHOICES, Rule(up_through_choice, down_through_choice)),
    Kind.CAST: Rule(up_through_cast, down_through_cast),
    Kind.ABSOLUTE: Rule(up_through_absolute, down_through_absolute),
    Kind.GATE: Rule(up_through_gate, down_through_gate),
    Kind.SOFTMAX: Rule(nothing_up, down_into_softmax),
    **dict.fromkeys(_LAYOUT, Rule(up_through_layout, down_through_layout)),
    **dict.fromkeys((Kind.MEAN, Kind.SUM), Rule(up_through_reduction, down_through_reduction)),
    **dict.fromkeys(UNCHANGED, Rule(up_unchanged, down_unchanged)),
    **dict.fromkeys((Kind.RECTIFIER, Kind.CLAMP), Rule(up_unchanged, down_through_clamp)),
}
"""Kinds that are not here let nothing through."""
