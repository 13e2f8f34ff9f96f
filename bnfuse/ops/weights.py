"""Write new weights for one call site."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn.modules.batchnorm import _BatchNorm

from bnfuse.affine import as_parameter
from bnfuse.graph.program import replace_tensor
from bnfuse.ops.calls import argument_names

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.graph.program import Program
    from bnfuse.ops.calls import Call


def write_weights(program: Program, call: Call, weight: Tensor, bias: Tensor | None) -> str:
    """Give a call site its own weight and bias, and return the name of its layer.

    The call is one of an operation with a weight: linear, a norm, an embedding. Without a new bias
    the bias stays as it is.

    A layer that nothing else reads is changed in place, under its own name; otherwise the call
    site gets a layer, or tensors, of its own.
    """
    if call.is_module:
        module = program.own_module(call.node)
        replace_tensor(module, "weight", as_parameter(weight))
        if bias is not None:
            replace_tensor(module, "bias", as_parameter(bias))
        if isinstance(module, _BatchNorm):
            module.affine = True
        return str(call.node.target)
    _write_argument(program, call, "weight", weight)
    if bias is not None:
        _write_argument(program, call, "bias", bias)
    return call.name


def _write_argument(program: Program, call: Call, name: str, tensor: Tensor) -> None:
    """Make a function call read ``tensor`` as its argument ``name``."""
    node = call.node
    old = call.owned.get(name)
    path = old.path if old else _free_place(program, call, name)
    source = program.own_tensor(node, name, path, tensor)
    position = argument_names(node).index(name)
    if position < len(node.args):
        previous = node.args[position]
        node.update_arg(position, source)
    else:
        previous = node.kwargs.get(name)
        node.update_kwarg(name, source)
    if previous is not None and not previous.users:  # type: ignore[union-attr]  # it was a get_attr
        program.graph.erase_node(previous)  # type: ignore[arg-type]  # likewise


def _free_place(program: Program, call: Call, name: str) -> str | None:
    """Return where the layer itself would keep the tensor, if that place is empty."""
    prefix, _, _ = next(iter(call.owned.values())).path.rpartition(".")
    parameters = program.module(prefix)._parameters
    if name in parameters and parameters[name] is None:
        return f"{prefix}.{name}" if prefix else name
    return None
