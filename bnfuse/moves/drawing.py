"""What draws random numbers in the order in which a value lies in memory.

The same seed gives each element another number where the value is laid out otherwise::

    torch.manual_seed(0); F.dropout(y, training=True)       drops other elements of y channels last

Source: ``aten/src/ATen/native/Distributions.cpp``; PyTorch marks such operators
``nondeterministic_seeded``.
"""

from __future__ import annotations

import inspect
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import fx

    from bnfuse.graph import Program

_DROPOUTS = (nn.modules.dropout._DropoutNd, nn.RReLU)
_PYTHON = frozenset(
    {F.dropout, F.dropout1d, F.dropout2d, F.dropout3d, F.alpha_dropout, F.feature_alpha_dropout,
     F.rrelu, F.gumbel_softmax}
)  # fmt: skip
_SWITCHES = ("train", "training")
# Attention drops elements of a product, which is laid out one way however its inputs are.
_NEVER = frozenset({"scaled_dot_product_attention"})


def draws_by_layout(program: Program, node: fx.Node) -> bool:
    """Whether a node draws a random number for each element of a value, in memory's order.

    Dropout that is off does not.
    """
    if node.op == "call_module":
        module = program.module(str(node.target))
        return isinstance(module, _DROPOUTS) and module.training
    if node.op == "call_function" and node.target in _PYTHON:
        return _is_on(node, inspect.signature(node.target).parameters.values(), "default")
    schema = _random_schema(_name(node))
    return schema is not None and _is_on(node, schema.arguments, "default_value")


def _name(node: fx.Node) -> str:
    """Return what ATen may call an operation; nothing for what is no operator of PyTorch's."""
    if node.op == "call_method":
        return str(node.target)
    if isinstance(node.target, torch._ops.OpOverload | torch._ops.OpOverloadPacket):
        return str(node.target).removeprefix("aten.").partition(".")[0]
    is_own = node.op == "call_function" and inspect.isbuiltin(node.target)
    return getattr(node.target, "__name__", "") if is_own else ""


@cache
def _random_schema(name: str) -> torch.FunctionSchema | None:
    """Return the schema of an operator that draws random numbers for the elements of a tensor."""
    packet = getattr(torch.ops.aten, name, None) if name and name not in _NEVER else None
    if not isinstance(packet, torch._ops.OpOverloadPacket):
        return None
    for overload in packet.overloads():  # type: ignore[no-untyped-call]  # PyTorch's
        found = getattr(packet, overload)
        schema: torch.FunctionSchema = found._schema
        takes_tensor = any("Tensor" in str(a.type) for a in schema.arguments if not a.is_out)
        if torch.Tag.nondeterministic_seeded in found.tags and takes_tensor:
            return schema
    return None


def _is_on(node: fx.Node, parameters: Iterable[Any], default_name: str) -> bool:
    """Whether a call draws, as far as a switch says: with none, or an unknown one, it does."""
    for place, parameter in enumerate(parameters):
        name = parameter.name
        if name in _SWITCHES:
            default = getattr(parameter, default_name)
            given = node.args[place] if place < len(node.args) else node.kwargs.get(name, default)
            return given is not False
    return True
