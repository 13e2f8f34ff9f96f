"""An affine beside a linear operation, absorbed into the operation's weight and bias.

Every rule takes the stored weight and bias and returns new ones, in float64. A missing bias counts
as 0. Behind the operation it is exact for any stride, padding, padding mode and dilation, and for
scales that are zero or negative, because the affine acts on the output alone. Before the operation
the scale is as free, while the shift has to reach every tap: zero padding is not shifted.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from bnfuse.affine.rounding import as_float64

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.affine.values import Affine


def absorb_into_rows(weight: Tensor, bias: Tensor | None, affine: Affine) -> tuple[Tensor, Tensor]:
    """Absorb an affine on the output axis of a convolution or a linear layer.

    Output channel ``o`` is ``y_o = W[o] ∗ x + b_o``, whatever the groups, so::

        s_o y_o + t_o = (s_o W[o]) ∗ x + (s_o b_o + t_o)

    Args:
        weight: ``(out, in / groups, *kernel)`` of a convolution, ``(out, in)`` of a linear layer.
        bias: ``(out,)`` or None.
        affine: ``out`` channels.

    Returns:
        The new weight, shaped as the old one, and the new bias ``(out,)``.
    """
    exact = as_float64(weight)
    # (out,) -> (out, 1, ..., 1)
    rows = affine.scale.to(exact.device).view(-1, *[1] * (weight.ndim - 1))
    return exact * rows, _absorb_into_bias(bias, affine)


def absorb_into_transposed(
    weight: Tensor, bias: Tensor | None, affine: Affine, groups: int
) -> tuple[Tensor, Tensor]:
    """Absorb an affine on the output axis of a transposed convolution.

    The weight's first axis holds the input channels of all groups in turn, its second the output
    channels of one group, so input channel ``i`` in group ``g = i // (in / groups)`` feeds output
    channels ``g * out / groups + j``::

        W'[i, j] = W[i, j] * s[g * out / groups + j]        b'_o = s_o b_o + t_o

    Outputs that no tap covers (``output_padding``) hold the bias alone, which becomes
    ``s b + t`` like every other output.

    Args:
        weight: ``(in, out / groups, *kernel)``.
        bias: ``(out,)`` or None.
        affine: ``out`` channels.
        groups: The number of groups of the convolution.

    Returns:
        The new weight, shaped as the old one, and the new bias ``(out,)``.
    """
    inputs, outputs_per_group, *kernel = weight.shape
    # (in, out/groups, *kernel) -> (groups, in/groups, out/groups, *kernel)
    grouped = as_float64(weight).reshape(groups, inputs // groups, outputs_per_group, *kernel)
    # (out,) -> (groups, 1, out/groups, 1, ..., 1)
    scale = affine.scale.to(grouped.device).view(groups, 1, outputs_per_group, *[1] * len(kernel))
    return (grouped * scale).reshape(weight.shape), _absorb_into_bias(bias, affine)


def absorb_into_columns(
    weight: Tensor, bias: Tensor | None, affine: Affine, groups: int = 1
) -> tuple[Tensor, Tensor | None]:
    """Absorb an affine on the input axis of a convolution or a linear layer.

    Output channel ``o`` in group ``g = o // (out / groups)`` reads the input channels
    ``i = g * in / groups + j``, and its kernel has taps ``k``::

        sum_jk W[o, j, k] (s_i x_i + t_i) = sum_jk (W[o, j, k] s_i) x_i + sum_jk W[o, j, k] t_i

    The last sum is a constant for each output only where every tap reads a shifted value; the
    caller sees to that, or gives an affine without shift.

    Args:
        weight: ``(out, in / groups, *kernel)`` of a convolution, ``(out, in)`` of a linear layer.
        bias: ``(out,)`` or None.
        affine: ``in`` channels.
        groups: The number of groups of the convolution.

    Returns:
        The new weight, shaped as the old one, and the new bias ``(out,)``, None where there was
        none and needs to be none.
    """
    exact = as_float64(weight)
    outputs, inputs_per_group, *kernel = weight.shape
    # (groups * in/groups,) -> (groups, 1, in/groups) -> (out, in/groups, 1, ..., 1)
    rows = (groups, outputs // groups, inputs_per_group)

    def by_output(coefficients: Tensor) -> Tensor:
        columns = coefficients.to(exact.device).reshape(groups, 1, inputs_per_group).expand(rows)
        return columns.reshape(outputs, inputs_per_group, *[1] * len(kernel))

    scaled = exact * by_output(affine.scale)
    if not affine.has_shift:
        return scaled, None if bias is None else as_float64(bias)
    added = (exact * by_output(affine.shift)).flatten(1).sum(1)
    return scaled, added if bias is None else as_float64(bias) + added


def scale_transposed_inputs(weight: Tensor, scale: Tensor) -> Tensor:
    """Absorb a scale on the input axis of a transposed convolution: ``W'[i] = s_i W[i]``.

    A shift there is not a constant for each output: edges see fewer taps than the interior.
    """
    exact = as_float64(weight)
    return exact * scale.to(exact.device).view(-1, *[1] * (weight.ndim - 1))


def border_kernel(weight: Tensor, shift: Tensor, groups: int) -> Tensor:
    """Return what a shift before a convolution adds at a tap: ``K[o, k] = sum_j W[o, j, k] t_j``.

    Where every tap reads a shifted value the sum over ``k`` is the constant of
    ``absorb_into_columns``; where zero padding is read only some taps count.

    Args:
        weight: ``(out, in / groups, *kernel)``.
        shift: ``(in,)``.
        groups: The number of groups.

    Returns:
        ``(out, 1, *kernel)``, float64.
    """
    exact = as_float64(weight)
    outputs, inputs_per_group, *kernel = weight.shape
    # (groups * in/groups,) -> (out, in/groups, 1, ..., 1)
    columns = shift.to(exact.device).reshape(groups, 1, inputs_per_group)
    columns = columns.expand(groups, outputs // groups, inputs_per_group)
    return (exact * columns.reshape(outputs, inputs_per_group, *[1] * len(kernel))).sum(
        1, keepdim=True
    )


def border_kernel_transposed(weight: Tensor, shift: Tensor, groups: int) -> Tensor:
    """Return ``K[o, k] = sum_i W[i, o, k] t_i`` of a transposed convolution.

    Args:
        weight: ``(in, out / groups, *kernel)``.
        shift: ``(in,)``.
        groups: The number of groups.

    Returns:
        ``(1, out, *kernel)``, float64.
    """
    inputs, outputs_per_group, *kernel = weight.shape
    exact = as_float64(weight)
    shifted = exact * shift.to(exact.device).reshape(-1, *[1] * (weight.ndim - 1))
    # (in, out/groups, *kernel) -> (groups, out/groups, *kernel) -> (1, out, *kernel)
    grouped = shifted.reshape(groups, inputs // groups, outputs_per_group, *kernel).sum(1)
    return grouped.reshape(1, groups * outputs_per_group, *kernel)


def _absorb_into_bias(bias: Tensor | None, affine: Affine) -> Tensor:
    """Return ``s b + t``, shape ``(out,)``."""
    if bias is None:
        return affine.shift
    return affine.scale * as_float64(bias) + affine.shift
