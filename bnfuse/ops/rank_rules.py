"""What single nodes say about ranks: axes that they name, axes that they take away, assertions."""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from bnfuse.graph.guards import assume_rank, check_rank
from bnfuse.ops.table import Kind

if TYPE_CHECKING:
    from bnfuse.ops.calls import Call


def count_of(given: Any) -> int | None:
    """Return how many axes are given, or None where that is not sure.

    One computed value may be a whole shape, as in ``x.view(y.shape)``, and ``x.view(dtype)`` keeps
    the shape.
    """
    if not isinstance(given, list | tuple) or not all(isinstance(g, int | fx.Node) for g in given):
        return None
    return None if len(given) == 1 and isinstance(given[0], fx.Node) else len(given)


def shaped_like(call: Call) -> fx.Node | None:
    """Return the value whose shape a reshape gives, or None where it names none.

    As in ``x.view_as(y)``, ``x.view(y.shape)``, ``x.view(y.size())``.
    """
    given = call.options.get("like", call.options.get("shape"))
    if "like" in call.options:
        return given if isinstance(given, fx.Node) else None
    if isinstance(given, list | tuple) and len(given) == 1:
        given = given[0]  # as a method gets it
    if not isinstance(given, fx.Node) or given.kwargs:
        return None
    is_shape = given.target is getattr and given.args[1:] == ("shape",)
    is_size = given.op == "call_method" and given.target == "size" and len(given.args) == 1
    value = given.args[0] if is_shape or is_size else None
    return value if isinstance(value, fx.Node) else None


def axes_added(call: Call) -> int | None:
    """Return how many axes ``unsqueeze`` or ``unflatten`` adds; None for other calls."""
    if "new_dim" in call.options:
        return 1
    parts = call.options.get("sizes")
    return len(parts) - 1 if isinstance(parts, list | tuple) else None


def change_by_mean(call: Call) -> int | None:
    """Return by how much a mean changes the rank, or None where that is not known."""
    dims = call.options["dim"]
    if call.options["keepdim"]:
        return 0
    if isinstance(dims, int):
        return -1
    return -len(dims) if isinstance(dims, list | tuple) and dims else None  # () means all


def change_by_linear(call: Call, rank_of: Callable[[fx.Node], int | None]) -> int | None:
    """Return by how much a linear layer changes the rank: one row of weights makes one number."""
    weight, computed = call.tensor("weight"), call.constants.get("weight")
    rank = None if weight is None else weight.ndim
    if isinstance(computed, fx.Node):
        rank = rank_of(computed)
    return {1: -1, 2: 0}.get(rank or 0)


CHANGES: dict[Kind, Callable[[Call, Callable[[fx.Node], int | None]], int | None]] = {
    Kind.LINEAR: change_by_linear,
    Kind.MEAN: lambda call, _: change_by_mean(call),
    Kind.SUM: lambda call, _: change_by_mean(call),
    Kind.EMBEDDING: lambda _, __: 1,
    Kind.UNFOLD: lambda _, __: -1,
}
"""By how much kinds of operations change the rank, from a call and the ranks of other values."""


def asserted(node: fx.Node) -> list[tuple[fx.Node, int]]:
    """Return ranks that the model asserts, or a guard checks, at this node."""
    if node.target in (check_rank, assume_rank) and isinstance(node.args[0], fx.Node):
        ranks: Any = node.args[1]
        ranks = ranks if isinstance(ranks, tuple) else (ranks,)
        return [(node.args[0], int(ranks[0]))] if len(ranks) == 1 else []
    if node.target is not torch._assert or not isinstance(node.args[0], fx.Node):
        return []
    test = node.args[0]
    if test.target is not operator.eq or not isinstance(test.args[0], fx.Node):
        return []
    asked, rank = test.args[0], test.args[1]
    is_rank = (asked.target is getattr and asked.args[1:] == ("ndim",)) or (
        asked.op == "call_method" and asked.target == "dim"
    )
    value = asked.args[0] if asked.args else None
    return [(value, rank)] if is_rank and isinstance(value, fx.Node) and type(rank) is int else []
