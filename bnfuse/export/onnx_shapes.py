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
    for shape in (node.outputs[0].shape, _shape_of_another(given)):
        if shape is not None:
            sizes = [size if isinstance(size, int) else -1 for size in shape]
            if sizes.count(-1) <= 1 and 0 not in sizes:
                return sizes
    return None


def _shape_of_another(target: Any) -> Any:
    """Return the shape of the value that a target is the shape of, or None."""
    maker = target.producer()
    if maker is None or maker.op_type != "Shape" or maker.domain:
        return None
    is_whole = "end" not in maker.attributes and maker.attributes.get_int("start", 0) == 0
    return maker.inputs[0].shape if is_whole else None
