"""What PyTorch says about the functions that the tables name."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterable

    from bnfuse.ops.table import Operation


def spellings(rows: Iterable[Operation]) -> list[tuple[Operation, Any, tuple[str, ...]]]:
    """Return every function of every row, with the names of its arguments."""
    return [(row, function, names) for row in rows for function, names in row.functions.items()]


def argument_names(function: Any) -> tuple[str, ...] | None:
    """Return the names of a function's arguments, the first as ``input``; None if it has no list.

    Operators of Python take them by position alone.
    """
    if isinstance(function, torch._ops.OpOverload):
        given = ["input" if a.name == "self" else a.name for a in function._schema.arguments]
        return (*given,) if "input" in given else ("input", *given[1:])
    if getattr(function, "__module__", "") in ("_operator", "operator"):
        return None
    try:
        names = tuple(inspect.signature(function).parameters)
    except ValueError:
        return None
    return None if "args" in names else ("input", *names[1:])


def is_method(name: str) -> bool:
    """Whether tensors have a method."""
    return callable(getattr(torch.Tensor, name, None))
