"""What oneDNN does to a result before it writes it: its post-operations, by their numbers.

::

    clip                 min(beta, max(alpha, x))
    relu                 x where x > 0, else alpha x
    swish                x / (1 + exp(-alpha x))
    hardsigmoid          min(1, max(0, alpha x + beta))
    hardswish            x min(1, max(0, alpha x + beta))

Source: https://uxlfoundation.github.io/oneDNN, eltwise and attributes; the numbers are those of
``dnnl_types.h``, the same in all builds of oneDNN 3.
"""

from __future__ import annotations

import ctypes
from typing import TYPE_CHECKING

from bnfuse.kernels.activation import Activation

if TYPE_CHECKING:
    from bnfuse.kernels.epilogue import Epilogue
    from bnfuse.kernels.library import Library, Owned

RELU, TANH, HARDSIGMOID, LOGISTIC = 0x20, 0x21, 0x28, 0x29
GELU_TANH, SWISH, CLIP, GELU_ERF, HARDSWISH = 0x2B, 0x2C, 0x2E, 0x31, 0x34
BINARY = {"add": 0x1FFF0, "mul": 0x1FFF1}
_KNOWN = {
    "relu": (RELU, 0.0, 0.0),
    "relu6": (CLIP, 0.0, 6.0),
    "sigmoid": (LOGISTIC, 0.0, 0.0),
    "tanh": (TANH, 0.0, 0.0),
    "silu": (SWISH, 1.0, 0.0),
    "hardsigmoid": (HARDSIGMOID, 1 / 6, 0.5),
    "hardswish": (HARDSWISH, 1 / 6, 0.5),
}
_USER_SCRATCHPAD = 1


def algorithm(activation: Activation) -> tuple[int, float, float]:
    """Return the number of an activation, with its alpha and its beta.

    >>> algorithm(Activation("hardtanh", (-1.0, 2.0))) == (CLIP, -1.0, 2.0)
    True
    """
    if activation.name == "hardtanh":
        low, high = activation.numbers
        return CLIP, low, high
    if activation.name == "leaky_relu":
        return RELU, activation.numbers[0], 0.0
    if activation.name == "gelu":
        return GELU_TANH if activation.approximate == "tanh" else GELU_ERF, 0.0, 0.0
    return _KNOWN[activation.name]


def attributes(library: Library, epilogue: Epilogue, result: Owned) -> Owned:
    """Return the attributes of a computation that does an epilogue, its scratch memory brought.

    Args:
        library: What is to run it.
        epilogue: What it is to do to its result.
        result: How the result lies in memory, and so a second operand.
    """
    made, operations = library.made("primitive_attr"), library.made("post_ops")
    if epilogue.binary:
        binary = BINARY[epilogue.binary.removeprefix("i")]
        library.call("post_ops_append_binary", operations, binary, result)
    if epilogue.activation is not None:
        number, alpha, beta = algorithm(epilogue.activation)
        numbers = ctypes.c_float(alpha), ctypes.c_float(beta)
        library.call("post_ops_append_eltwise", operations, number, *numbers)
    library.call("primitive_attr_set_post_ops", made, operations)
    library.call("primitive_attr_set_scratchpad_mode", made, _USER_SCRATCHPAD)
    return made
