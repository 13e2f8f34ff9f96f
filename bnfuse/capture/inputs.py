"""Inputs that are containers: what a trace cannot see about their parts."""

from __future__ import annotations

import dis
from types import CodeType
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import fx


def reads_parts_and_tests_none(graph: fx.Graph, forward: Callable[..., Any]) -> bool:
    """Whether a forward takes inputs apart and has a test for None.

    ``batch.mask is None`` cannot be seen by a trace, in which every part of an input is a proxy.
    The test may be about something else; then a capture is given up for nothing.
    """
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    takes_apart = any(_takes_apart(user) for node in placeholders for user in node.users)
    return takes_apart and any(_tests_none(code) for code in _codes(forward))


def _takes_apart(user: fx.Node) -> bool:
    """Whether a node reads what a tensor does not have: a key, an attribute."""
    if user.target is getattr:
        return not hasattr(torch.Tensor, str(user.args[1]))
    if user.op == "call_method":
        return not hasattr(torch.Tensor, str(user.target))
    is_getitem = getattr(user.target, "__name__", "") == "getitem"
    return is_getitem and isinstance(user.args[1], str | int)


def _tests_none(code: CodeType) -> bool:
    """Whether there is an ``is None`` or an ``is not None`` in the bytecode."""
    return any(
        "NONE" in instruction.opname or instruction.opname == "IS_OP"
        for instruction in dis.get_instructions(code)
    )


def _codes(forward: Callable[..., Any]) -> Iterator[CodeType]:
    """Yield the code of a function and of the functions nested in it."""
    function: Any = forward
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    pending = [function.__code__] if hasattr(function, "__code__") else []
    while pending:
        code = pending.pop()
        yield code
        pending += [constant for constant in code.co_consts if isinstance(constant, CodeType)]
