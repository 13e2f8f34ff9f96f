"""The stand-ins for values that a forward is traced with."""

from __future__ import annotations

import operator
import sys
from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from bnfuse.capture.code import places_that_ask
from bnfuse.capture.watch import called_by_torch

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.capture.tracer import ModelTracer

_IN_PLACE = "iadd iand ifloordiv ilshift imatmul imod imul ior ipow irshift isub itruediv ixor"


class RecordingProxy(fx.Proxy):
    """A proxy that records ``x += y`` as the in-place operation it is, and answers isinstance.

    The standard proxy has no ``__iadd__``, so Python turns ``x += y`` into ``x = x + y``, and other
    names of the same tensor keep their old values. It is also no ``torch.Tensor``, so a forward
    that asks takes the branch for something else.
    """

    @property  # type: ignore[misc]  # object has it as a plain attribute
    def __class__(self) -> type:
        """The type of the value, for a forward that asks; PyTorch itself sees a proxy.

        So do its functions in C, which a forward calls without a frame of theirs in between: one
        that takes a proxy for a tensor reads memory that is none of its own.
        """
        frame = sys._getframe(1)
        if called_by_torch(1) or frame.f_lasti not in places_that_ask(frame.f_code):
            return type(self)
        tracer: ModelTracer = self.tracer  # type: ignore[assignment]  # only that one makes these
        return tracer.type_of(self.node)

    def __setattr__(self, name: str, value: Any) -> None:
        """Refuse ``weight.data = ...``; PyTorch itself sets up the proxy."""
        if not called_by_torch(1):
            tracer: ModelTracer = self.tracer  # type: ignore[assignment]  # only that one makes these
            raise tracer.notices.refuse(f"its forward sets {name!r} of {self.node.name!r}")
        super().__setattr__(name, value)

    def __hash__(self) -> int:
        """Refuse the look-up of a value in a dictionary or a set."""
        if not called_by_torch(1):
            tracer: ModelTracer = self.tracer  # type: ignore[assignment]  # only that one makes these
            raise tracer.notices.refuse(f"its forward looks {self.node.name!r} up")
        return object.__hash__(self)

    def __getattr__(self, name: str) -> fx.proxy.Attribute:
        """Return the attribute as a proxy of the same kind."""
        return RecordingAttribute(self, name)

    def __setitem__(self, key: Any, value: Any) -> None:
        """Record ``x[key] = value``."""
        self.tracer.create_proxy("call_function", operator.setitem, (self, key, value), {})


class RecordingAttribute(fx.proxy.Attribute, RecordingProxy):
    """An attribute of a value, such as its shape; a method if it is called."""


def _recorder(name: str) -> Callable[[fx.Proxy, Any], fx.Proxy]:
    target = getattr(operator, name)

    def record(self: fx.Proxy, other: Any) -> fx.Proxy:
        return self.tracer.create_proxy("call_function", target, (self, other), {})

    return record


for _name in _IN_PLACE.split():
    setattr(RecordingProxy, f"__{_name}__", _recorder(_name))


def paths_of(root: nn.Module) -> dict[int, tuple[str, torch.Tensor]]:
    """Return the tensors of a model with their first paths, by their identity."""
    parameters = [(n, p) for n, p in root.named_parameters() if isinstance(p, nn.Parameter)]
    return {id(t): (n, t) for n, t in (*root.named_buffers(), *parameters)}
