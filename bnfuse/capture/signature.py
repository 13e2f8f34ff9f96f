"""The arguments of a forward, and the calls that a graph of it stands for."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

from bnfuse.capture.watch import CaptureError

if TYPE_CHECKING:
    from collections.abc import Callable

_LITERALS = (type(None), bool, int, float, str)


@dataclass(frozen=True, slots=True)
class Parameter:
    """One parameter of a forward, after ``self``.

    Attributes:
        name: Its name.
        default: Its default; meaningless where it is required.
        is_required: Whether it has none.
        is_variadic: Whether it is ``*args`` or ``**kwargs``.
        is_keyword_only: Whether it can be given by name alone.
    """

    name: str
    default: Any
    is_required: bool
    is_variadic: bool = False
    is_keyword_only: bool = False


def parameters_of(forward: Callable[..., Any]) -> tuple[Parameter, ...]:
    """Return the parameters of an unbound forward after ``self``.

    Raises:
        CaptureError: No argument is required.
    """
    found = []
    for p in list(inspect.signature(forward).parameters.values())[1:]:
        is_variadic = p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
        is_required = p.default is p.empty and not is_variadic
        is_keyword_only = p.kind is p.KEYWORD_ONLY
        found.append(Parameter(p.name, p.default, is_required, is_variadic, is_keyword_only))
    if not any(p.is_required for p in found):
        raise CaptureError("no argument of its forward is required")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class Assumptions:
    """Which calls a graph stands for.

    Attributes:
        signature: The signature of the forward, without ``self``.
        parameters: Its parameters.
        tensors: Names of arguments that have to be tensors.
    """

    signature: inspect.Signature
    parameters: tuple[Parameter, ...]
    tensors: frozenset[str]

    @property
    def hold_always(self) -> bool:
        """Whether there is no call that the forward accepts and the graph does not stand for."""
        return not self.tensors and all(p.is_required for p in self.parameters)

    @property
    def hold_for_one_shape(self) -> bool:
        """Whether the graph stands for calls of one shape only."""
        return False

    def graph_arguments(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> list[Any] | None:
        """Return the arguments to call the graph with, or None where it does not stand for them.

        Raises:
            TypeError: The forward does not accept the call, as Python would raise it.
        """
        bound = self.signature.bind(*args, **kwargs).arguments
        given = []
        for p in self.parameters:
            if p.is_required:
                value = bound[p.name]
                if p.name in self.tensors and not isinstance(value, torch.Tensor):
                    return None
                given.append(value)
            elif p.name in bound and not _is_default(bound[p.name], p):
                return None
        return given

    def result(self, outputs: Any) -> Any:
        """Return the forward's result from what the graph returned."""
        return outputs


def without_self(forward: Callable[..., Any]) -> inspect.Signature:
    """Return the signature of an unbound forward after ``self``."""
    signature = inspect.signature(forward)
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _is_default(value: Any, parameter: Parameter) -> bool:
    """Whether an optional argument has the value the graph was captured with."""
    if parameter.is_variadic or value is parameter.default:
        return not parameter.is_variadic or not value
    return isinstance(value, _LITERALS) and (
        type(value) is type(parameter.default) and bool(value == parameter.default)
    )
