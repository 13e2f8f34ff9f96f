"""An affine beside an operation with a weight, which absorbs it.

::

    conv(W, b) ── s, t          s, t ── conv(W, b)
    conv(s W, s b + t)          conv(W s, b + W t)

The products are those of ``bnfuse.affine.absorb``. The conditions are about the axis: a linear
layer writes and reads channels on the last axis, an n-dimensional convolution on axis 1 of a value
with n + 2 axes, a batch norm on axis 1.

On the way down the shift of an affine is absorbed where every tap reads a shifted value: without
zero padding, or with a padding that repeats the value's own elements. A transposed convolution
takes no shift, since its outputs see different numbers of taps even without padding. Otherwise the
shift becomes a map that is added to the result, if asked for, where that is no more work.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch

from bnfuse.affine import (
    Affine,
    absorb_into_columns,
    as_float64,
    border_kernel,
    border_kernel_transposed,
    scale_transposed_inputs,
)
from bnfuse.moves.step import Edit, Moved, NewTensors
from bnfuse.ops.linear import absorb_after, input_channels, output_channels
from bnfuse.ops.odd import oddities, written_tensors
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.moves.step import Traveller
    from bnfuse.ops import Call
    from bnfuse.report import Decline

_FOLDABLE = (torch.float16, torch.bfloat16, torch.float32, torch.float64)
_HALVES = (torch.float16, torch.bfloat16)


def up_into_linear(traveller: Traveller, call: Call, affine: Affine) -> tuple[Moved, ...] | Decline:
    """Absorb an affine after a linear operation into its rows."""
    if obstacle := obstacle_of(traveller, call):
        return obstacle
    vector = _on_channels(call, affine, output_channels(call))
    if vector is None:
        return traveller.decline("other-axis", call.name)

    def make(own: Call, rows: slice) -> NewTensors:
        return NewTensors(*absorb_after(own, vector.map(lambda c: c[rows])))

    edit = Edit(call, make, is_by_rows=call.kind is not Kind.TRANSPOSED_CONVOLUTION)
    return (Moved(edits=(edit,), ranks=ranks_of(call, affine)),)


def down_into_linear(
    traveller: Traveller, call: Call, _: fx.Node, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Absorb an affine before a linear operation into its columns."""
    if obstacle := obstacle_of(traveller, call):
        return obstacle
    vector = _on_channels(call, affine, input_channels(call))
    if vector is None:
        return traveller.decline("other-axis", call.name)
    if vector.has_shift and not takes_shift(call):
        if not traveller.with_maps or not _pays(call):
            return traveller.decline("zero-padding", call.name)
        edit = Edit(call, lambda own, _: _with_map(own, vector))
    else:
        edit = Edit(call, lambda own, _: _absorb_before(own, vector), _has_free_rows(call))
    return (Moved(edits=(edit,), ranks=ranks_of(call, affine)),)


def _has_free_rows(call: Call) -> bool:
    """Whether the rows of a weight read the same inputs, those of one group."""
    is_transposed = call.kind is Kind.TRANSPOSED_CONVOLUTION
    return not is_transposed and call.options.get("groups", 1) == 1


def _absorb_before(call: Call, vector: Affine) -> NewTensors:
    """Return the weight and bias of an operation that ``vector`` stands before."""
    bias = call.tensor("bias")
    if call.kind is Kind.TRANSPOSED_CONVOLUTION:
        weight = scale_transposed_inputs(call.weight, vector.scale)
        return NewTensors(weight, None if bias is None else as_float64(bias))
    groups = int(call.options.get("groups", 1))
    return NewTensors(*absorb_into_columns(call.weight, bias, vector, groups))


def _pays(call: Call) -> bool:
    """Whether adding a map to the result is no more work than the affine on the input.

    On a CPU the two are about equal where the result has five times the input's elements; the map
    is memory as well, so twice is the limit.
    """
    stride = call.options["stride"]
    steps = stride if isinstance(stride, list | tuple) else (stride,) * (call.weight.ndim - 2)
    if call.kind is Kind.TRANSPOSED_CONVOLUTION:
        return output_channels(call) * prod(steps) <= 2 * input_channels(call)
    return output_channels(call) <= 2 * input_channels(call) * prod(steps)


def _with_map(call: Call, vector: Affine) -> NewTensors:
    """Scale the weight, keep the bias, and add what the shift comes to at each place."""
    bias, groups = call.tensor("bias"), int(call.options["groups"])
    kept = None if bias is None else as_float64(bias)
    if call.kind is Kind.TRANSPOSED_CONVOLUTION:
        weight = scale_transposed_inputs(call.weight, vector.scale)
        border = border_kernel_transposed(call.weight, vector.shift, groups)
    else:
        weight, _ = absorb_into_columns(call.weight, None, vector.without_shift(), groups)
        border = border_kernel(call.weight, vector.shift, groups)
    return NewTensors(weight, kept, border)


def takes_shift(call: Call) -> bool:
    """Whether a shift of the input becomes a constant for each output.

    True where no tap reads a zero that padding put there.
    """
    if call.kind is not Kind.CONVOLUTION:
        return call.kind is Kind.LINEAR
    if call.options["padding_mode"] != "zeros":
        return True
    kernel = call.weight.shape[2:]
    padding = call.options["padding"]
    if padding == "same":
        return all(size == 1 for size in kernel)
    if padding == "valid":
        return True
    amounts = padding if isinstance(padding, list | tuple) else (padding,)
    return all(amount == 0 for amount in amounts)


def up_into_norm(traveller: Traveller, call: Call, affine: Affine) -> tuple[Moved, ...] | Decline:
    """Compose with a batch norm before: ``s (γ r (x − μ) + β) + t``, so ``γ' = sγ, β' = sβ+t``."""
    found = _norm(traveller, call, affine)
    if not isinstance(found, tuple):
        return found
    vector, gamma, beta, _ = found
    made = NewTensors(vector.scale * gamma, vector.scale * beta + vector.shift)
    edit = Edit(call, lambda _, __: made)
    return (Moved(edits=(edit,), ranks=ranks_of(call, affine)),)


def down_into_norm(
    traveller: Traveller, call: Call, _: fx.Node, affine: Affine
) -> tuple[Moved, ...] | Decline:
    """Compose with a batch norm after.

    With ``r = 1 / sqrt(σ² + ε)``, ``γ r (s x + t − μ) + β`` has to be ``γ' r (x − μ) + β'``, so::

        γ' = γ s        β' = β + γ r (t + (s − 1) μ)
    """
    found = _norm(traveller, call, affine)
    if not isinstance(found, tuple):
        return found
    vector, gamma, beta, (mean, rate) = found
    shift = beta + gamma * rate * (vector.shift + (vector.scale - 1) * mean)
    made = NewTensors(gamma * vector.scale, shift)
    edit = Edit(call, lambda _, __: made)
    return (Moved(edits=(edit,), ranks=ranks_of(call, affine)),)


def _norm(
    traveller: Traveller, call: Call, affine: Affine
) -> tuple[Affine, torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]] | Decline:
    """Return an affine as vectors on a batch norm's axis, and the batch norm's own."""
    if obstacle := obstacle_of(traveller, call):
        return obstacle
    is_of_instances = call.spelling.startswith("InstanceNorm")  # without a batch on another axis
    if call.options["training"] or call.tensor("running_mean") is None or is_of_instances:
        return traveller.decline("no-linear-producer", f"{call.name}, a batch norm of each batch")
    mean, variance = (as_float64(call.owned[n].tensor) for n in ("running_mean", "running_var"))
    vector = affine.on_any_axis(mean.numel()) if affine.rank == 0 else None
    if affine.rank >= 2:
        vector = affine.along(1, mean.numel())
    if vector is None:
        return traveller.decline("other-axis", call.name)
    gamma, beta = call.tensor("weight"), call.tensor("bias")
    ones, zeros = torch.ones_like(mean), torch.zeros_like(mean)
    rate = torch.rsqrt(variance + float(call.options["eps"]))
    vector = vector.map(lambda c: c.to(mean.device))
    return (
        vector,
        ones if gamma is None else as_float64(gamma),
        zeros if beta is None else as_float64(beta),
        (mean, rate),
    )


def obstacle_of(traveller: Traveller, call: Call) -> Decline | None:
    """Return why the tensors of a call cannot be replaced, or None."""
    if call.hooked:
        return traveller.decline("hooked", call.name)
    if odd := oddities(call):
        return traveller.decline("odd-constants", ", ".join(odd))
    if call.computed:
        return traveller.decline("computed-constants", ", ".join(call.computed))
    if written := written_tensors(traveller.program, call):
        return traveller.decline("written-constants", ", ".join(written))
    weight = call.tensor("weight")
    statistics = call.tensor("running_mean")
    made = (
        weight.dtype if weight is not None else statistics.dtype if statistics is not None else None
    )
    read = traveller.dtypes
    is_mixed_norm = traveller.is_norm and made in _HALVES and read == {torch.float32}
    if made in _FOLDABLE and (read <= {made} or is_mixed_norm):
        return None
    facts = f"{made} and {', '.join(sorted(map(str, read)))}"
    return traveller.decline("mixed-dtype", facts)


def _on_channels(call: Call, affine: Affine, channels: int) -> Affine | None:
    """Return an affine as vectors on the axis of a call's channels, or None."""
    if affine.rank == 0:
        return affine.on_any_axis(channels)
    if call.kind is Kind.LINEAR:
        return affine.along(affine.rank - 1, channels)
    return affine.along(1, channels) if affine.rank == call.weight.ndim else None


def ranks_of(call: Call, affine: Affine) -> tuple[tuple[fx.Node, int], ...]:
    """Return the rank that the result has to have; a single coefficient fits any."""
    return ((call.node, affine.rank),) if affine.is_placed else ()
