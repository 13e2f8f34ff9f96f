"""The activations in Triton, of elements in float32: the third table, with two in ``activation``.

A NaN stays one and an infinity becomes what it does in PyTorch. Quotients are rounded correctly;
the exponential is the GPU's own. Import this only where Triton is there.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import triton
import triton.language as tl

if TYPE_CHECKING:
    from bnfuse.kernels.activation import Activation


@triton.jit
def _relu(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    return tl.maximum(x, 0.0, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _hardtanh(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    raised = tl.maximum(x, a, propagate_nan=tl.PropagateNan.ALL)
    return tl.minimum(raised, b, propagate_nan=tl.PropagateNan.ALL)


@triton.jit
def _relu6(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    return _hardtanh(x, 0.0, 6.0)


@triton.jit
def _leaky_relu(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    return tl.where(x > 0.0, x, x * a)


@triton.jit
def _sigmoid(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    return tl.math.div_rn(1.0, 1.0 + tl.exp(-x))


@triton.jit
def _silu(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    return tl.math.div_rn(x, 1.0 + tl.exp(-x))


@triton.jit
def _tanh(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """``1 - 2 / (exp(2 x) + 1)``; near 0, where that cancels, Lambert's continued fraction."""
    square = x * x
    above = x * (945.0 + square * (105.0 + square))
    near = tl.math.div_rn(above, 945.0 + square * (420.0 + 15.0 * square))
    far = 1.0 - tl.math.div_rn(2.0, tl.exp(2.0 * x) + 1.0)
    return tl.where(square < 0.3, near, far)


@triton.jit
def _hardsigmoid(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    return _relu6(x + 3.0, a, b) * (1.0 / 6.0)


@triton.jit
def _hardswish(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    return x * _relu6(x + 3.0, a, b) * (1.0 / 6.0)


@triton.jit
def _gelu(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    return 0.5 * x * (1.0 + tl.math.erf(x * 0.7071067811865476))


@triton.jit
def _gelu_tanh(x: tl.tensor, a: tl.tensor, b: tl.tensor) -> tl.tensor:
    """``x sigmoid(2 u)``, which is ``x (1 + tanh(u)) / 2`` without the cancellation."""
    doubled = 1.5957691216057308 * (x + 0.044715 * x * x * x)
    return tl.math.div_rn(x, 1.0 + tl.exp(-doubled))


FORMULAS: dict[str, Any] = {
    "relu": _relu,
    "relu6": _relu6,
    "hardtanh": _hardtanh,
    "leaky_relu": _leaky_relu,
    "sigmoid": _sigmoid,
    "tanh": _tanh,
    "silu": _silu,
    "hardswish": _hardswish,
    "hardsigmoid": _hardsigmoid,
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
}
"""By the names of ``activation.py``: functions of an element and of two numbers."""


def formula(activation: Activation | None) -> Any:
    """Return the formula of an activation, None for none."""
    if activation is None:
        return None
    is_tanh = activation.approximate == "tanh"
    return FORMULAS["gelu_tanh" if is_tanh else activation.name]
