"""Inputs that are containers: what a trace cannot see about their parts."""

from __future__ import annotations

import dis
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import CodeType, FrameType

    from torch import fx


def takes_inputs_apart(graph: fx.Graph) -> bool:
    """Whether a graph reads what a tensor does not have, a key or an attribute, of an input."""
    placeholders = [node for node in graph.nodes if node.op == "placeholder"]
    return any(_takes_apart(user) for node in placeholders for user in node.users)


@contextmanager
def noting_code(run: set[CodeType]) -> Iterator[None]:
    """Note the code of every Python function that is called, apart from PyTorch's and bnfuse's."""

    def note(frame: FrameType, event: str, _: object) -> None:
        owner = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if event == "call" and owner not in ("torch", "bnfuse"):
            run.add(frame.f_code)

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)


def tests_none(code: CodeType) -> bool:
    """Whether there is an ``is None`` or an ``is not None`` in a function's bytecode.

    ``batch.mask is None`` cannot be seen by a trace, in which every part of an input is a proxy.
    The test may be about something else; then a capture is given up for nothing.

    >>> tests_none((lambda x: x is None).__code__), tests_none((lambda x: x == 1).__code__)
    (True, False)
    """
    return any(
        "_NONE" in instruction.opname or instruction.opname == "IS_OP"
        for instruction in dis.get_instructions(code)
    )


def _takes_apart(user: fx.Node) -> bool:
    if user.target is getattr:
        return not hasattr(torch.Tensor, str(user.args[1]))
    if user.op == "call_method":
        return not hasattr(torch.Tensor, str(user.target))
    is_getitem = getattr(user.target, "__name__", "") == "getitem"
    return is_getitem and isinstance(user.args[1], str | int)
