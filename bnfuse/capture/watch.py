"""Notice, while a forward is traced, what a graph would lose.

A trace runs the model's Python once and keeps the tensor operations alone. Whatever else the
forward does would happen once, at tracing, and never again. Each such thing is noticed here and
becomes an obstacle to capturing that forward:

- it sets an attribute of a module, or changes a list, a dictionary, a set or a tensor one holds;
- it prints, or switches a layer between training and eval mode;
- it asks for a mode of PyTorch (``torch.is_grad_enabled``) or enters an autocast region;
- it draws random numbers that no operation of the graph would draw again.
"""

from __future__ import annotations

import builtins
import random
import sys
import threading
from contextlib import ExitStack, contextmanager
from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import fx, nn

from bnfuse.capture.dimensions import rank_checks
from bnfuse.capture.factories import factories
from bnfuse.capture.state import ModuleState, OutsideState

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from bnfuse.capture.state import Change

    StandIn = tuple[Any, str, Callable[..., Any]]

_MODES = (
    "is_grad_enabled",
    "is_inference_mode_enabled",
    "is_autocast_enabled",
    "is_autocast_cpu_enabled",
    "get_autocast_dtype",
    "set_grad_enabled",
)


class CaptureError(Exception):
    """Tracing would lose something; the message says what, as a clause.

    Args:
        what: The message.
        changed: Paths of modules with attributes that the forward changes, where it went through to
            the end and that is all that would be lost.
    """

    def __init__(self, what: str, changed: frozenset[str] = frozenset()) -> None:
        super().__init__(what)
        self.changed = changed


class RandomDrawError(CaptureError):
    """Somebody drew random numbers during the trace."""


class Notices(list[str]):
    """What was noticed, in order; a forward that swallows exceptions cannot hide it.

    Attributes:
        changes: What was noticed of attributes of modules.
    """

    def __init__(self) -> None:
        super().__init__()
        self.changes: list[Change] = []

    def note_changes(self, changes: list[Change]) -> None:
        """Note what a forward did to attributes of modules."""
        self.changes += changes
        self.extend(f"its forward {change}" for change in changes)

    def refuse(self, what: str) -> CaptureError:
        """Note an obstacle and return the error to raise."""
        self.append(what)
        return CaptureError(what)

    def error(self) -> CaptureError:
        """Return the error about all that was noticed."""
        is_all = len(self.changes) == len(self)
        modules = frozenset(change.module for change in self.changes)
        return CaptureError(self[0], modules if is_all else frozenset())


@contextmanager
def watching(
    root: nn.Module, notices: Notices, stand_ins: Iterable[StandIn] = ()
) -> Iterator[None]:
    """Run a trace of ``root`` and raise if it lost something.

    Args:
        root: What is traced.
        notices: Where to note what is lost.
        stand_ins: What else to put in place of functions meanwhile.

    Raises:
        CaptureError: Something was noticed.
    """
    before, outside = _random_state(), OutsideState.of(root)
    try:
        with ExitStack() as stack:
            for target, name, stand_in in (*_stand_ins(notices), *stand_ins):
                stack.enter_context(_replaced(target, name, stand_in))
            yield
    finally:
        notices.extend(f"its forward changes {name}" for name in outside.restore())
    if notices:
        raise notices.error()
    if _random_state() != before:
        raise RandomDrawError("its forward draws random numbers of its own")


@contextmanager
def watching_state(root: nn.Module, notices: Notices) -> Iterator[None]:
    """Note what the forward changes in the modules of ``root``."""
    state = ModuleState.of(root)
    yield
    notices.note_changes(state.changes())


def called_by_torch(depth: int) -> bool:
    """Whether the frame ``depth`` levels above the caller's runs code of PyTorch, or of bnfuse."""
    return _is_trusted(sys._getframe(depth + 1).f_globals.get("__name__"))


@lru_cache(maxsize=1024)
def _is_trusted(module: object) -> bool:
    """Whether a module of that name is PyTorch's or bnfuse's; proxies ask each time."""
    return str(module).partition(".")[0] in ("torch", "bnfuse")


def for_proxies() -> Iterator[StandIn]:
    """Yield what to put in place of functions that cannot take a proxy."""
    yield from rank_checks()
    yield from factories()
    yield torch, "is_tensor", _is_tensor


def _stand_ins(notices: Notices) -> Iterator[StandIn]:
    """Yield what to put in place of functions whose effect or answer a graph would not hold."""
    autocast = torch.amp.autocast_mode.autocast
    yield nn.Module, "train", _refusing(nn.Module.train, "changes the mode of a layer", notices)
    yield builtins, "print", _refusing(print, "prints", notices)
    yield autocast, "__enter__", _refusing(autocast.__enter__, "enters autocast", notices)
    for name in _MODES:
        original, what = getattr(torch, name), f"calls torch.{name}"
        yield torch, name, _refusing(original, what, notices, serves_torch=True)


def _is_tensor(value: Any) -> bool:
    """Answer ``torch.is_tensor`` for proxies as ``isinstance`` is answered for them."""
    if isinstance(getattr(value, "node", None), fx.Node):
        return value.tracer.type_of(value.node) is torch.Tensor
    return isinstance(value, torch.Tensor)


def _refusing(
    original: Callable[..., Any], what: str, notices: Notices, *, serves_torch: bool = False
) -> Callable[..., Any]:
    """Return a stand-in that serves other threads, and PyTorch itself if told, and refuses."""
    tracing_thread = threading.get_ident()

    def stand_in(*args: Any, **kwargs: Any) -> Any:
        if threading.get_ident() != tracing_thread or (serves_torch and called_by_torch(1)):
            return original(*args, **kwargs)
        raise notices.refuse(f"its forward {what}")

    return stand_in


@contextmanager
def _replaced(target: Any, name: str, stand_in: Callable[..., Any]) -> Iterator[None]:
    original = getattr(target, name)
    setattr(target, name, stand_in)
    try:
        yield
    finally:
        setattr(target, name, original)


def _random_state() -> tuple[bytes, int, bytes, int]:
    """Return the states of the generators a forward can draw from without leaving a node."""
    inner = dict(np.random.get_state(legacy=False))["state"]  # noqa: NPY002 - the one models use
    return (
        torch.get_rng_state().numpy().tobytes(),
        hash(random.getstate()),
        inner["key"].tobytes(),
        inner["pos"],
    )
