"""The bytecode of a forward: what it does that no trace can see."""

from __future__ import annotations

import dis
import gc
import itertools
import sys
from contextlib import contextmanager
from functools import lru_cache
from itertools import pairwise
from types import CodeType, FunctionType
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_NOT_THE_MODEL = frozenset({"torch", "numpy", "bnfuse", *sys.stdlib_module_names})


def codes_of(module: nn.Module) -> tuple[CodeType, ...]:
    """Return the code of a module's forward and of the methods it names, PyTorch's own apart."""
    owner: Any = type(module)
    return _codes_of_class(owner)


@lru_cache(maxsize=256)
def _codes_of_class(owner: Any) -> tuple[CodeType, ...]:
    found: list[CodeType] = []
    pending = ["forward"]
    seen = set(pending)
    while pending:
        function: Any = getattr(owner, pending.pop(), None)
        while hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        if not isinstance(function, FunctionType) or _is_torch(function):
            continue
        for code in _nested(function.__code__):
            found.append(code)
            fresh = [name for name in code.co_names if name not in seen]
            seen.update(fresh)
            pending += fresh
    return tuple(found)


def _is_torch(function: FunctionType) -> bool:
    """Whether a function is PyTorch's own; the generated ones of graphs have no module."""
    return str(function.__module__ or "").startswith("torch.")


def _nested(code: CodeType) -> Iterator[CodeType]:
    """Yield a code and those of the functions written inside it."""
    yield code
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _nested(constant)


@lru_cache(maxsize=4096)
def untraceable(code: CodeType) -> str:
    """Return what a function does that a trace takes no notice of, as a clause, or ""."""
    if what := untraceable_on_tensors(code):
        return what
    if any(instruction.opname.startswith("MATCH_") for instruction in dis.get_instructions(code)):
        return "matches patterns"
    return "asks whether two values are the same object" if _compares_identity(code) else ""


@lru_cache(maxsize=4096)
def untraceable_on_tensors(code: CodeType) -> str:
    """Return what goes another way on tensors without elements, as a clause, or ""."""
    names = [instruction.opname for instruction in dis.get_instructions(code)]
    # A handler ends in POP_EXCEPT, and so does a with statement; COPY before it marks the clean-up
    # that re-raises.
    pairs = itertools.pairwise(names)
    ends = sum(name == "POP_EXCEPT" and before != "COPY" for before, name in pairs)
    if "CHECK_EXC_MATCH" in names or ends > names.count("WITH_EXCEPT_START"):
        return "catches exceptions"
    if sets_global(code):
        return "sets a global"
    return "asks for the exact type of a value" if _asks_type(code) else ""


def sets_global(code: CodeType) -> bool:
    """Whether a function gives a name of its module another value."""
    return any(i.opname == "STORE_GLOBAL" for i in dis.get_instructions(code))


def sets_data(code: CodeType) -> str:
    """Return that a function gives a tensor other data, which no version counter tells, or "".

    >>> sets_data(compile("weight.data = 0", "", "exec")), sets_data(compile("w = 0", "", "exec"))
    ('sets the data of a tensor', '')
    """
    stores = (i for i in dis.get_instructions(code) if i.opname == "STORE_ATTR")
    return "sets the data of a tensor" if any(i.argval == "data" for i in stores) else ""


def _compares_identity(code: CodeType) -> bool:
    """Whether a function has an ``is`` whose operands are not None, True, False or ``...``."""
    instructions = list(dis.get_instructions(code))
    return any(
        instruction.opname == "IS_OP" and before.opname not in ("LOAD_CONST", "RETURN_CONST")
        for before, instruction in pairwise(instructions)
    )


def _asks_type(code: CodeType) -> bool:
    """Whether a function calls ``type`` on something other than ``self``."""
    instructions = [i for i in dis.get_instructions(code) if i.opname not in ("CACHE", "PRECALL")]
    return any(
        instruction.opname.startswith("LOAD_GLOBAL")
        and instruction.argval == "type"
        and following.argval != "self"
        for instruction, following in pairwise(instructions)
    )


@contextmanager
def noting_code(
    run: set[CodeType], scopes: dict[CodeType, dict[str, Any]] | None = None
) -> Iterator[None]:
    """Note the code of every function of the model that is called, and of what it builds on.

    Args:
        run: Where to note it.
        scopes: Where to note the globals it reads.
    """

    def note(frame: FrameType, event: str, _: object) -> None:
        owner = str(frame.f_globals.get("__name__", "")).partition(".")[0]
        if event == "call" and owner not in _NOT_THE_MODEL:
            run.add(frame.f_code)
            if scopes is not None:
                scopes[frame.f_code] = frame.f_globals

    before, collects = sys.getprofile(), gc.isenabled()
    gc.disable()  # what runs when garbage is collected is no part of the forward
    sys.setprofile(note)
    try:
        yield
    finally:
        sys.setprofile(before)
        if collects:
            gc.enable()


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


_ASKING = frozenset({"isinstance", "issubclass", "_abc_instancecheck"})
_ATTRIBUTES = frozenset({"LOAD_ATTR", "LOAD_METHOD", "MATCH_CLASS"})


@lru_cache(maxsize=1024)
def places_that_ask(code: CodeType) -> frozenset[int]:
    """Return the offsets of the instructions that ask for the type of a value.

    They read an attribute, match a class, or call ``isinstance``: a call starts in the source where
    the name of what it calls does.
    """
    found, calls, names = set(), [], set()
    for step in dis.get_instructions(code):
        where = step.positions and (step.positions.lineno, step.positions.col_offset)
        if step.opname in _ATTRIBUTES:
            found.add(step.offset)
        elif "CALL" in step.opname:
            calls.append((step.offset, where))
        elif isinstance(step.argval, str) and step.argval in _ASKING:
            names.add(where)
    return frozenset({*found, *(offset for offset, where in calls if where in names)})
