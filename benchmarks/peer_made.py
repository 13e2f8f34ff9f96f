"""What it takes to put a tool to a case: how it folds, and what it makes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

    from tests.conformance.case import Call, Case


@dataclass(frozen=True, slots=True)
class Made:
    """What a tool made of a model.

    Attributes:
        call: Runs it, with the arguments of the model.
        ops: Counts by aten name what runs in a call of a case; a batch norm under any
            name with ``batch_norm`` in it.
        state: What holds the attributes that the model's forward writes, if anything does.
    """

    call: Callable[..., Any]
    ops: Callable[[Call, Case], Counter[str]]
    state: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One way to fold.

    Attributes:
        title: What it is called in tables.
        make: Folds a model, given a call that it may run.
        counted: How batch norms that still run are told.
        traces: Whether it runs the model to make something of it.
        loose: Whether containers and values other than tensors are not part of what it returns.
        pure: Whether what it makes is a function of tensors by design: without state, writing no
            argument and sharing no memory with it.
        single: Whether it has to run in float32.
        shared: Whether what it makes shares the tensors of the model by design, so that its calls
            may change in the model what calls of the model change.
        own_random: Whether it draws other random numbers than the model for the same seed.
        unfair: Texts of errors that come from how the cases are written.
    """

    title: str
    make: Callable[[nn.Module, Call], Made]
    counted: str
    traces: bool = False
    loose: bool = False
    pure: bool = False
    single: bool = False
    shared: bool = False
    own_random: bool = False
    unfair: tuple[str, ...] = ()
