"""The algebra of folding: the one place where weights, biases and statistics are combined.

Everything here is a pure function of float64 tensors. Nothing here knows what a graph is.
"""

from bnfuse.affine.absorb import (
    absorb_into_columns,
    absorb_into_rows,
    absorb_into_transposed,
    border_kernel,
    border_kernel_transposed,
    scale_transposed_inputs,
)
from bnfuse.affine.bounds import Bounds, through_clamp, with_shift
from bnfuse.affine.layout import (
    embedded,
    joined,
    permuted,
    picked_at,
    pieces,
    put_back,
    regroup,
    selected,
    unpermuted,
)
from bnfuse.affine.rounding import (
    ALL,
    FEW_ELEMENTS,
    Made,
    all_finite,
    as_float64,
    as_parameter,
    few_rows,
    forget,
    is_rounded,
    round_all,
    round_bounds,
    round_once,
    round_weight,
    stand_in,
)
from bnfuse.affine.values import Affine

__all__ = [
    "ALL",
    "FEW_ELEMENTS",
    "Affine",
    "Bounds",
    "Made",
    "absorb_into_columns",
    "absorb_into_rows",
    "absorb_into_transposed",
    "all_finite",
    "as_float64",
    "as_parameter",
    "border_kernel",
    "border_kernel_transposed",
    "embedded",
    "few_rows",
    "forget",
    "is_rounded",
    "joined",
    "permuted",
    "picked_at",
    "pieces",
    "put_back",
    "regroup",
    "round_all",
    "round_bounds",
    "round_once",
    "round_weight",
    "scale_transposed_inputs",
    "selected",
    "stand_in",
    "through_clamp",
    "unpermuted",
    "with_shift",
]
