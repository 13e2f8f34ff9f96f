"""What is run in a verification: the float64 reference, the unfused model, the candidate."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from bnfuse.capture import copy_model
from bnfuse.errors import RequestError
from bnfuse.validation.inputs import cast_floating, floating_dtype, is_dense, map_tensors

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from bnfuse.validation.inputs import Arguments

# In float64 the reference itself rounds, and other kernels run than in float32, where the own error
# is measured: a correct fold in SegFormer's head came out 6.3 times the figure scaled down.
FLOAT64_MARGIN = 8.0


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


def candidate_runner(
    fused: nn.Module | str | Path, place: torch.device, dtype: torch.dtype | None = None
) -> Candidate:
    """Return how to run a module or an exported file.

    Args:
        fused: The module or the path.
        place: Where to run it.
        dtype: What to convert a module's floating-point inputs to; None to leave them.

    Raises:
        RequestError: It is neither.
    """
    if isinstance(fused, nn.Module):
        module = _moved(fused, place, None)
        run = _in_dtype(_runner(module), dtype)
        return Candidate(type(fused).__name__, _described(place), run, structured=True)
    if isinstance(fused, str | Path) and Path(fused).suffix == ".onnx":
        from bnfuse.export.runtime import OnnxSession

        session = OnnxSession(Path(fused), cuda=place.type == "cuda")
        return Candidate(Path(fused).name, session.described, session.run, structured=False)
    raise RequestError(
        f"verify compares a module or an .onnx file with the model and got {fused!r}: "
        "pass what bnfuse.optimize returned, or the path of an exported file."
    )


def make_reference(
    model: nn.Module, place: torch.device, example: Arguments, narrow: torch.dtype | None = None
) -> Reference:
    """Return the unfused model in float64, or as it is where it cannot run in float64.

    Args:
        model: The unfused model.
        place: Where to run it.
        example: The arguments of a call.
        narrow: The dtype of the candidate, where it is another than the model's.

    Raises:
        RequestError: It cannot run on the example at all.
    """
    obstacle = _obstacle(model, place, None, example)
    if obstacle is not None:
        first_line = (str(obstacle).splitlines() or [""])[0]
        raise RequestError(
            f"{type(model).__name__} cannot run on the example inputs "
            f"({type(obstacle).__name__}: {first_line}): "
            "pass inputs that the unfused model accepts."
        ) from obstacle
    unfused = _cast_runner(model, place, None)
    if narrow is not None:
        name, ulp = "unfused model in float64", torch.finfo(narrow).eps
        exact, rounded = (_cast_runner(model, place, to) for to in (torch.float64, narrow))
        return Reference(name, exact, rounded, 1.0, ulp)
    dtype = floating_dtype(model, example)
    ulp = torch.finfo(dtype).eps
    if _obstacle(model, place, torch.float64, example) is not None:
        name = "unfused model in its own precision"  # it forces one in its forward
        return Reference(name, unfused, _nudged_runner(model, place, ulp), 1.0, ulp)
    doubled = _cast_runner(model, place, torch.float64)
    name = "unfused model in float64"
    if dtype is not torch.float64:
        return Reference(name, doubled, unfused, 1.0, ulp)
    if _obstacle(model, place, torch.float32, example) is not None:
        return Reference(name, doubled, _nudged_runner(model, place, ulp), 1.0, ulp)
    ratio = FLOAT64_MARGIN * ulp / torch.finfo(torch.float32).eps
    return Reference(name, doubled, _cast_runner(model, place, torch.float32), ratio, ulp)


def _obstacle(
    model: nn.Module, place: torch.device, dtype: torch.dtype | None, example: Arguments
) -> Exception | None:
    """Return what a fresh copy of the model raises on the example in a dtype, or None."""
    try:
        _cast_runner(model, place, dtype)(example)
    except Exception as error:
        return error
    return None


def _runner(module: nn.Module) -> Callable[[Arguments], Any]:
    def run(arguments: Arguments) -> Any:
        args, kwargs = map_tensors(torch.clone, arguments)  # a forward may write its inputs
        return module(*args, **kwargs)

    return run


def _moved(model: nn.Module, place: torch.device, dtype: torch.dtype | None) -> nn.Module:
    """Return a copy of a model on a device and in a dtype.

    Raises:
        RequestError: It would have to move a part that cannot be copied and is the caller's own.
    """
    copied = copy_model(model)
    if not copied.by_reference:
        return copied.model.to(place, dtype)
    devices = {tensor.device for tensor in [*model.parameters(), *model.buffers()]}
    if dtype is not None or not devices <= {place}:
        raise RequestError(
            f"{type(model).__name__} has a part that cannot be copied, so it cannot be moved to "
            f"{place}: verify it on the device it is on."
        )
    return copied.model


def _cast_runner(
    model: nn.Module, place: torch.device, dtype: torch.dtype | None
) -> Callable[[Arguments], Any]:
    """Return how to run a copy of the model, in a dtype if one is given."""
    return _in_dtype(_runner(_moved(model, place, dtype)), dtype)


def _in_dtype(
    run: Callable[[Arguments], Any], dtype: torch.dtype | None
) -> Callable[[Arguments], Any]:
    return lambda arguments: run(arguments if dtype is None else cast_floating(arguments, dtype))


def _nudged_runner(model: nn.Module, place: torch.device, ulp: float) -> Callable[[Arguments], Any]:
    """Return how to run on inputs moved by one unit in the last place: where rounding leads.

    It runs a copy of its own, since a forward may keep a state.
    """
    run = _cast_runner(model, place, None)

    def nudge(tensor: Tensor) -> Tensor:
        has_arithmetic = tensor.is_floating_point() and tensor.dtype.itemsize > 1  # float8 has none
        if not has_arithmetic or not is_dense(tensor):
            return tensor
        signs = torch.randint_like(tensor, 2) * 2 - 1
        return tensor * (1 + ulp * signs)

    return lambda arguments: run(map_tensors(nudge, arguments))


def _described(place: torch.device) -> str:
    """Return ``cpu``, or the name of the GPU as well."""
    if place.type == "cuda":
        return f"{place} ({torch.cuda.get_device_name(place)})"
    return str(place)
