"""What is run in a verification: the float64 reference, the unfused model, the candidate."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnfuse.capture import copy_model
from bnfuse.errors import RequestError
from bnfuse.validation.inputs import cast_floating, floating_dtype, map_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.validation.inputs import Arguments


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is being checked.

    Attributes:
        name: A class or file name.
        device: Where it runs, with the runtime's provider.
        run: Computes the outputs.
        structured: Whether the outputs come in the model's own containers and dtypes.
    """

    name: str
    device: str
    run: Callable[[Arguments], Any]
    structured: bool


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
    exact: Callable[[Arguments], Any]
    rounded: Callable[[Arguments], Any]
    own_error_ratio: float
    ulp: float


def candidate_runner(fused: nn.Module | str | Path, place: torch.device) -> Candidate:
    """Return how to run a module or an exported file.

    Raises:
        RequestError: It is neither.
    """
    if isinstance(fused, nn.Module):
        module = copy.deepcopy(fused).to(place)
        return Candidate(type(fused).__name__, _described(place), _runner(module), structured=True)
    if isinstance(fused, str | Path) and Path(fused).suffix == ".onnx":
        from bnfuse.export.runtime import OnnxSession

        session = OnnxSession(Path(fused), cuda=place.type == "cuda")
        return Candidate(Path(fused).name, session.described, session.run, structured=False)
    raise RequestError(
        f"verify compares a module or an .onnx file with the model and got {fused!r}: "
        "pass what bnfuse.optimize returned, or the path of an exported file."
    )


def make_reference(model: nn.Module, place: torch.device, example: Arguments) -> Reference:
    """Return the unfused model in float64, or as it is where it cannot run in float64.

    Raises:
        RequestError: It cannot run on the example at all.
    """
    unfused = _runner(copy_model(model).model.to(place))
    try:
        unfused(example)
    except Exception as error:
        raise RequestError(
            f"{type(model).__name__} cannot run on the example inputs "
            f"({type(error).__name__}: {error}): pass inputs that the unfused model accepts."
        ) from error
    dtype = floating_dtype(model, example)
    ulp = torch.finfo(dtype).eps
    doubled = _cast_runner(model, place, torch.float64)
    try:
        doubled(example)
    except Exception:  # the model forces a precision; whatever it raises says so
        return Reference(
            "unfused model in its own precision", unfused, _nudged(unfused, ulp), 1.0, ulp
        )
    if dtype is torch.float64:
        ratio = ulp / torch.finfo(torch.float32).eps
        coarse = _cast_runner(model, place, torch.float32)
        return Reference("unfused model in float64", doubled, coarse, ratio, ulp)
    return Reference("unfused model in float64", doubled, unfused, 1.0, ulp)


def _runner(module: nn.Module) -> Callable[[Arguments], Any]:
    def run(arguments: Arguments) -> Any:
        args, kwargs = map_tensors(torch.clone, arguments)  # a forward may write its inputs
        return module(*args, **kwargs)

    return run


def _cast_runner(
    model: nn.Module, place: torch.device, dtype: torch.dtype
) -> Callable[[Arguments], Any]:
    run = _runner(copy_model(model).model.to(place, dtype))
    return lambda arguments: run(cast_floating(arguments, dtype))


def _nudged(run: Callable[[Arguments], Any], ulp: float) -> Callable[[Arguments], Any]:
    """Run on inputs moved by one unit in the last place: how far rounding carries the outputs."""

    def nudge(tensor: Tensor) -> Tensor:
        if not tensor.is_floating_point():
            return tensor
        signs = torch.randint_like(tensor, 2) * 2 - 1
        return tensor * (1 + ulp * signs)

    return lambda arguments: run(map_tensors(nudge, arguments))


def _described(place: torch.device) -> str:
    """Return ``cpu``, or the name of the GPU as well."""
    if place.type == "cuda":
        return f"{place} ({torch.cuda.get_device_name(place)})"
    return str(place)
