"""Convolutions of the graph as branches of the algebra, and back."""

from __future__ import annotations

import operator
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnfuse.affine import as_float64, round_once
from bnfuse.affine.branch import Branch
from bnfuse.graph.border import BorderMap
from bnfuse.ops.calls import argument_names
from bnfuse.ops.odd import is_fixed
from bnfuse.ops.shape_rules import spatial_axes
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.graph.program import Program
    from bnfuse.ops.calls import Call

_GEOMETRY = ("stride", "padding", "dilation", "groups")


def branch_of(program: Program, call: Call) -> Branch | None:
    """Return a convolution as a branch, or None where its tensors or its padding are not plain."""
    if call.kind is not Kind.CONVOLUTION or not is_fixed(program, call):
        return None
    weight, bias = call.tensor("weight"), call.tensor("bias")
    if weight is None:
        return None
    axes = weight.ndim - 2
    padding = padding_of(call, weight)
    stride, dilation = (each_axis(call.options[name], axes) for name in ("stride", "dilation"))
    if padding is None or stride is None or dilation is None or not weight.is_floating_point():
        return None
    shift = torch.zeros(weight.shape[0]) if bias is None else bias
    return Branch(
        weight,
        as_float64(shift).to(weight.device),
        stride,
        padding,
        dilation,
        int(call.options["groups"]),
        str(call.options["padding_mode"]),
    )


def pool_branch(call: Call, channels: int, weight: torch.Tensor) -> Branch | None:
    """Return an average pool as a convolution of each channel, with ``1 / k`` at its ``k`` taps.

    Every window divides by the same number where padded zeros are counted, or there are none, and
    none reaches over the end of the padding.

    Args:
        call: The pool.
        channels: How many channels it is given.
        weight: That of a convolution beside it, whose axes it has to have.
    """
    axes, options = weight.ndim - 2, call.options
    kernel = each_axis(options["kernel_size"], axes)
    stride = each_axis(options["stride"] or kernel, axes)
    padding = each_axis(options["padding"], axes)
    if call.hooked or spatial_axes(call) != axes or options["ceil_mode"] is not False:
        return None
    if kernel is None or stride is None or padding is None:
        return None
    divisor = options.get("divisor_override") or prod(kernel)
    is_even = options["count_include_pad"] is True or not any(padding)
    if not is_even or type(divisor) is not int:
        return None
    taps = torch.full((channels, 1, *kernel), 1 / divisor, dtype=torch.float64)
    return Branch(
        taps.to(weight.device),
        torch.zeros(channels, dtype=torch.float64, device=weight.device),
        stride,
        padding,
        (1,) * axes,
        channels,
    )


def padding_of(call: Call, weight: torch.Tensor) -> tuple[int, ...] | None:
    """Return the padding of each axis, or None where it is computed or its two sides differ."""
    given, axes = call.options["padding"], weight.ndim - 2
    if given == "valid":
        return (0,) * axes
    if given != "same":
        return each_axis(given, axes)
    steps = each_axis(call.options["dilation"], axes)
    if steps is None:
        return None
    both = [d * (k - 1) for d, k in zip(steps, weight.shape[2:], strict=True)]
    return None if any(amount % 2 for amount in both) else tuple(amount // 2 for amount in both)


def each_axis(value: Any, axes: int) -> tuple[int, ...] | None:
    """Return an option of a convolution for each spatial axis, or None where it is no number."""
    given = tuple(value) if isinstance(value, list | tuple) else (value,)
    if not all(isinstance(size, int) for size in given):
        return None
    return given * axes if len(given) == 1 else given


def write_geometry(program: Program, call: Call, branch: Branch) -> None:
    """Give a call site the stride, padding, dilation and groups of a branch."""
    if not call.is_module:
        if isinstance(call.node.target, torch._ops.OpOverload):  # others may take words as padding
            call.node.target = call.node.target.overloadpacket.default
        names = argument_names(call.node)
        if isinstance(call.node.target, torch._ops.OpOverload):  # another one takes padding="same"
            call.node.target = call.node.target.overloadpacket.default
        for name in _GEOMETRY:
            value = getattr(branch, name)
            position = names.index(name)
            if position < len(call.node.args):
                call.node.update_arg(position, value)
            else:
                call.node.update_kwarg(name, value)
        return
    module = program.own_module(call.node)
    if not isinstance(module, nn.modules.conv._ConvNd):
        raise TypeError(f"{call.name} is no convolution: write weights only to what was read.")
    module.kernel_size, module.groups = branch.kernel, branch.groups
    module.padding_mode = branch.padding_mode  # type: ignore[assignment]  # one of torch's own
    module.stride, module.padding, module.dilation = branch.stride, branch.padding, branch.dilation
    module._reversed_padding_repeated_twice = [p for p in reversed(branch.padding) for _ in "ab"]


def add_map(program: Program, call: Call, kernel: Tensor) -> None:
    """Add the map of a shift before a convolution to its result, and let all read the sum."""
    rounded = round_once(kernel, call.weight)
    if rounded is None:
        raise ValueError(f"the map of {call.name} does not fit its dtype: check before writing.")
    names = ("stride", "padding", "dilation", "output_padding")
    options = {name: call.options[name] for name in names if name in call.options}
    is_transposed = call.kind is Kind.TRANSPOSED_CONVOLUTION
    border = BorderMap(rounded, options, is_transposed=is_transposed)
    path = program.place_module(f"{call.name}_border", border)
    node = call.node
    readers = list(node.users)  # those of its shape as well, which the map does not change
    with program.graph.inserting_after(node):
        made = program.graph.call_module(path, (call.input,))
    with program.graph.inserting_after(made):
        total = program.graph.call_function(operator.add, (node, made))
    for reader in readers:
        reader.replace_input_with(node, total)
    program.written_values.join(node, total)  # what wrote the result writes the sum now
    program.replacements.note(node, total)
