"""Reshapes of an ONNX model whose target is known but for one size.

::

    x ── Reshape(Concat(Shape(x)[0:1], [8, 49])) ── y  [batch, 8, 49]
    x ── Reshape([-1, 8, 49]) ── y

Where a size is open, torch.onnx computes the targets of reshapes by a chain of small operators at
every call, though what it is the size of is written beside it. With one size unknown the runtime
finds it by itself: the number of elements, divided by the others. Not where two are unknown, or one
is 0, which leaves nothing to divide by.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from bnfuse.extras import require


def settle_reshapes(model: Any) -> None:
    """Give reshapes in an ``onnx_ir.Model`` constant targets where one size alone is open."""
    ir = require("onnx_ir", "to export ONNX")
    for node in list(model.graph):
        target = _target(node) if node.op_type == "Reshape" and not node.domain else None
        if target is None:
            continue
        name = f"{node.outputs[0].name}_target"
        if name in model.graph.initializers:
            continue
        tensor = ir.tensor(np.array(target, dtype=np.int64), name=name)
        constant = ir.Value(
            name=name, shape=ir.Shape([len(target)]), type=ir.TensorType(ir.DataType.INT64)
        )
        constant.const_value = tensor
        model.graph.register_initializer(constant)
        node.replace_input_with(1, constant)


def _target(node: Any) -> list[int] | None:
    """Return the target of a reshape that is computed, -1 for its open size; None to leave it."""
    given = node.inputs[1]
    if given is None or given.const_value is not None:
        return None
    for found in (_sizes(node.outputs[0].shape), _entries(given)):
        if found is not None:
            sizes = [-1 if size is None else size for size in found]
            if sizes.count(-1) <= 1 and 0 not in sizes:
                return sizes
    return None


def _entries(value: Any) -> list[int | None] | None:
    """Return the entries of a vector of sizes, None for one that is unknown or is left open.

    Returns None where not even their number is known.
    """
    numbers = _numbers(value)
    if numbers is not None:
        return [None if number == -1 else number for number in numbers]
    maker = None if value is None else value.producer()
    rule = None if maker is None or maker.domain else _RULES.get(maker.op_type)
    return None if rule is None else rule(maker)


def _numbers(value: Any) -> list[int] | None:
    """Return a constant vector of integers, None for anything else."""
    constant = None if value is None else value.const_value
    if constant is None or constant.dtype.name != "INT64" or len(constant.shape) != 1:
        return None
    return [int(number) for number in constant.numpy()]


def _of_shape(node: Any) -> list[int | None] | None:
    sizes = _sizes(node.inputs[0].shape)
    start = node.attributes.get_int("start", 0)
    return None if sizes is None else sizes[start : node.attributes.get_int("end", None)]


def _of_concat(node: Any) -> list[int | None] | None:
    parts = [_entries(part) for part in node.inputs]
    found: list[int | None] = []
    for part in parts:
        if part is None:
            return None
        found += part
    return found


def _of_slice(node: Any) -> list[int | None] | None:
    entries = _entries(node.inputs[0])
    start, end = (_numbers(bound) for bound in node.inputs[1:3])
    has_steps = len(node.inputs) > 4
    if entries is None or start is None or end is None or has_steps:
        return None
    return entries[start[0] : end[0]]  # a vector has one axis


_RULES = {"Shape": _of_shape, "Concat": _of_concat, "Slice": _of_slice}


def _sizes(shape: Any) -> list[int | None] | None:
    return None if shape is None else [n if isinstance(n, int) else None for n in shape]
