"""Which activation a call is, with its numbers, whatever its spelling."""

from __future__ import annotations

from numbers import Real
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.graph.hooks import is_hooked
from bnfuse.kernels.activation import Activation
from bnfuse.ops.calls import read_call
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from bnfuse.graph.program import Program
    from bnfuse.ops.calls import Call

_ATEN = torch.ops.aten
_NAMES: dict[Any, str] = {
    **dict.fromkeys((nn.SiLU, F.silu, _ATEN.silu.default, _ATEN.silu_.default), "silu"),
    **dict.fromkeys((nn.Hardswish, F.hardswish, _ATEN.hardswish.default), "hardswish"),
    **dict.fromkeys((nn.Hardsigmoid, F.hardsigmoid, _ATEN.hardsigmoid.default), "hardsigmoid"),
    **dict.fromkeys((nn.Sigmoid, torch.sigmoid, F.sigmoid, _ATEN.sigmoid.default), "sigmoid"),
    **dict.fromkeys((nn.Tanh, torch.tanh, F.tanh, _ATEN.tanh.default), "tanh"),
    **dict.fromkeys((nn.GELU, F.gelu, _ATEN.gelu.default), "gelu"),
    **dict.fromkeys(("sigmoid", "sigmoid_"), "sigmoid"),
    **dict.fromkeys(("tanh", "tanh_"), "tanh"),
    _ATEN.hardswish_.default: "hardswish",
}


def activation_at(program: Program, node: fx.Node) -> Activation | None:
    """Return the activation that a node applies to its first argument, or None."""
    call = read_call(program, node)
    if call is not None and call.hooked:
        return None
    if call is not None and call.kind is Kind.RECTIFIER:
        return _rectifier(call)
    if call is not None and call.kind is Kind.CLAMP:
        return _clamp(call)
    target: Any = node.target
    if node.op == "call_module":
        module = program.module(str(node.target))
        target = None if is_hooked(module) else type(module)
        return _named(target, getattr(module, "approximate", None))
    return _named(target, node.kwargs.get("approximate", "none")) if _is_plain(node) else None


def _is_plain(node: fx.Node) -> bool:
    """Whether a node is given one value, and at most a flag and a keyword besides."""
    return len(node.args) == 1 and node.kwargs.keys() <= {"inplace", "approximate"}


def _named(target: Any, approximate: Any) -> Activation | None:
    name = _NAMES.get(target)
    if name == "gelu":
        return Activation(name, (), approximate) if approximate in ("none", "tanh") else None
    return None if name is None else Activation(name)


def _rectifier(call: Call) -> Activation | None:
    if "negative_slope" in call.options:
        slope = _number(call.options["negative_slope"])
        return None if slope is None else Activation("leaky_relu", (slope,))
    return None if "weight" in call.constants else Activation("relu")


def _clamp(call: Call) -> Activation | None:
    options = call.options
    low, high = (_number(options.get(f"{end}_val", options.get(end))) for end in ("min", "max"))
    if low is None or high is None or low > high:
        return None
    is_six = call.spelling in ("ReLU6", "relu6")
    return Activation("relu6") if is_six else Activation("hardtanh", (low, high))


def _number(value: Any) -> float | None:
    """Return a plain number as such, and None for anything else."""
    return float(value) if isinstance(value, Real) and not isinstance(value, bool) else None
