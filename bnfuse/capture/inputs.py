"""Inputs that are containers: which parts of them a forward reads."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import fx


def takes_inputs_apart(graph: fx.Graph) -> bool:
    """Whether a graph reads what a tensor does not have, a key or an attribute, of an input."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    return any(_takes_apart(user) for node in placeholders for user in node.users)


def _takes_apart(user: fx.Node) -> bool:
    if user.target is getattr:
        return not hasattr(torch.Tensor, str(user.args[1]))
    if user.op == "call_method":
        return not hasattr(torch.Tensor, str(user.target))
    is_getitem = getattr(user.target, "__name__", "") == "getitem"
    return is_getitem and isinstance(user.args[1], str | int)
