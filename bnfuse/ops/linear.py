"""The affine of a batch norm, and how linear operations absorb one: where their channels are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.affine import Affine, absorb_into_rows, absorb_into_transposed
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.ops.calls import Call


def norm_affine(call: Call) -> Affine:
    """Return the affine, as vectors, of a batch norm that has running statistics.

    Raises:
        KeyError: It has none, or the graph computes them.
    """
    statistics = call.owned
    return Affine.of_batch_norm(
        statistics["running_mean"].tensor,
        statistics["running_var"].tensor,
        call.tensor("weight"),
        call.tensor("bias"),
        float(call.options["eps"]),
    )


def output_channels(call: Call) -> int:
    """Return how many channels a linear operation writes."""
    if call.kind is Kind.TRANSPOSED_CONVOLUTION:
        return int(call.weight.shape[1]) * int(call.options["groups"])
    return int(call.weight.shape[0])


def input_channels(call: Call) -> int:
    """Return how many channels a linear operation reads."""
    if call.kind is Kind.TRANSPOSED_CONVOLUTION:
        return int(call.weight.shape[0])
    return int(call.weight.shape[1]) * int(call.options.get("groups", 1))


def rank_with_channels_on_axis_1(call: Call) -> int:
    """Return the rank of value at which the operation writes its channels on axis 1.

    A linear layer writes on the last axis, so on axis 1 of a value with 2 dimensions. An
    n-dimensional convolution writes on axis 1 of a batch, with n + 2 dimensions; without the
    batch axis its channels are on axis 0. Either way it is the rank of the weight.
    """
    return call.weight.ndim


def absorb_after(call: Call, affine: Affine) -> tuple[Tensor, Tensor]:
    """Return the weight and bias, in float64, of the operation followed by ``affine``."""
    bias = call.tensor("bias")
    if call.kind is Kind.TRANSPOSED_CONVOLUTION:
        return absorb_into_transposed(call.weight, bias, affine, int(call.options["groups"]))
    return absorb_into_rows(call.weight, bias, affine)
