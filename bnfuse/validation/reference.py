"""The unfused model as a reference: in float64 where it can be, whole or layer by layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch

from bnfuse.capture import copy_model
from bnfuse.errors import RequestError
from bnfuse.validation.inputs import floating_dtype
from bnfuse.validation.memory import is_too_large
from bnfuse.validation.parts import NotByPartsError, WidenedCalls
from bnfuse.validation.runners import ModuleRun, moved

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import nn

    from bnfuse.validation.inputs import Arguments

# In float64 the reference itself rounds, and other kernels run than in float32, where the own error
# is measured: a correct fold in SegFormer's head came out 6.3 times the figure scaled down.
FLOAT64_MARGIN = 8.0
_IN_FLOAT64 = "unfused model in float64"


@dataclass(frozen=True, slots=True)
class Reference:
    """What the candidate is compared with.

    Attributes:
        name: What it is, in words.
        exact: Computes the outputs to compare with.
        rounded: Computes the outputs with the rounding errors the unfused model makes itself.
        own_error_ratio: What to multiply the deviation of ``rounded`` from ``exact`` with, to have
            the unfused model's own error in the candidate's dtype.
        ulp: The spacing of numbers just above 1 in the candidate's dtype.
    """

    name: str
    exact: ModuleRun
    rounded: ModuleRun
    own_error_ratio: float
    ulp: float


def make_reference(
    model: nn.Module,
    place: torch.device,
    example: Arguments,
    narrow: torch.dtype | None = None,
    by_parts: bool | None = None,
) -> Reference:
    """Return the unfused model in float64, or as it is where it cannot run in float64.

    Args:
        model: The unfused model.
        place: Where to run it.
        example: The arguments of a call.
        narrow: The dtype of the candidate, where it is another than the model's.
        by_parts: Whether to widen one layer at a time, not a copy of the whole; None to do so
            where a copy may not fit into memory.

    Raises:
        RequestError: It cannot run on the example at all.
    """

    def as_it_is(dtype: torch.dtype | None = None, nudge: float = 0.0) -> ModuleRun:
        return ModuleRun(moved(model, place, dtype), dtype, nudge)

    obstacle = _obstacle(as_it_is, example)
    if obstacle is not None:
        raise RequestError(
            f"{type(model).__name__} cannot run on the example inputs ({_first_line(obstacle)}): "
            "pass inputs that the unfused model accepts."
        ) from obstacle
    dtype = floating_dtype(model, example)
    ulp = torch.finfo(narrow or dtype).eps
    wide = _in_float64(model, place, example, by_parts)
    if wide is None and narrow is None:
        name = "unfused model in its own precision"  # it forces one in its forward
        return Reference(name, as_it_is(), as_it_is(nudge=ulp), 1.0, ulp)
    name, make = wide or (_IN_FLOAT64, lambda: as_it_is(torch.float64))
    exact = make()
    if narrow is not None or dtype is not torch.float64:
        return Reference(name, exact, as_it_is(narrow), 1.0, ulp)
    if _obstacle(lambda: as_it_is(torch.float32), example) is not None:
        return Reference(name, exact, as_it_is(nudge=ulp), 1.0, ulp)
    ratio = FLOAT64_MARGIN * ulp / torch.finfo(torch.float32).eps
    return Reference(name, exact, as_it_is(torch.float32), ratio, ulp)


def _in_float64(
    model: nn.Module, place: torch.device, example: Arguments, by_parts: bool | None
) -> tuple[str, Callable[[], ModuleRun]] | None:
    """Return how to run a model in float64, and what that is called; None where it cannot."""
    name = _IN_FLOAT64
    if by_parts or (by_parts is None and is_too_large(model, place)):
        obstacle = _obstacle(lambda: _layer_by_layer(model, place), example)
        if obstacle is None:
            return f"{name}, layer by layer", lambda: _layer_by_layer(model, place)
        name = f"{name}, copied whole because {_first_line(obstacle)}"

    def whole() -> ModuleRun:
        return ModuleRun(moved(model, place, torch.float64), torch.float64)

    return None if _obstacle(whole, example) is not None else (name, whole)


def _layer_by_layer(model: nn.Module, place: torch.device) -> ModuleRun:
    """Return how to run a copy of a model whose layers are widened during their calls.

    Raises:
        NotByPartsError: A part of it cannot be copied.
    """
    copied = copy_model(model)
    if copied.by_reference:
        raise NotByPartsError("a part of it cannot be copied")
    module = copied.model.to(place)
    return ModuleRun(module, torch.float64, around=WidenedCalls(module).watched)


def _obstacle(make: Callable[[], ModuleRun], example: Arguments) -> Exception | None:
    """Return what a fresh copy of the model raises on the example, or None."""
    try:
        make()(example)
    except Exception as error:
        return error
    return None


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"
