"""What is run in a verification: the candidate, and copies of the unfused model."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from bnfuse.capture import copy_model
from bnfuse.errors import RequestError
from bnfuse.validation.inputs import cast_floating, floating_dtype, is_dense, map_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from contextlib import AbstractContextManager

    from torch import Tensor

    from bnfuse.export.runtime import OnnxSession
    from bnfuse.export.tensorrt_run import EngineSession
    from bnfuse.validation.inputs import Arguments


@dataclass(frozen=True, slots=True)
class ModuleRun:
    """Runs a module that nobody else calls.

    Attributes:
        module: The module.
        dtype: What its floating-point inputs are converted to; None to leave them.
        nudge: By how much the inputs are changed, relatively and up or down at random.
        around: What each call runs in.
    """

    module: nn.Module
    dtype: torch.dtype | None = None
    nudge: float = 0.0
    around: Callable[[], AbstractContextManager[None]] = nullcontext

    def __call__(self, arguments: Arguments) -> Any:
        """Return the outputs."""
        if self.nudge:
            arguments = map_tensors(self._nudged, arguments)
        if self.dtype is not None:
            arguments = cast_floating(arguments, self.dtype)
        args, kwargs = map_tensors(torch.clone, arguments)  # a forward may write its inputs
        with self.around():
            return self.module(*args, **kwargs)

    def _nudged(self, tensor: Tensor) -> Tensor:
        has_arithmetic = tensor.is_floating_point() and tensor.dtype.itemsize > 1  # float8 has none
        if not has_arithmetic or not is_dense(tensor):
            return tensor
        signs = torch.randint_like(tensor, 2) * 2 - 1
        return tensor * (1 + self.nudge * signs)


@dataclass(frozen=True, slots=True)
class Candidate:
    """What is being checked.

    Attributes:
        name: A class or file name.
        device: Where it runs, with the runtime's provider.
        run: Computes the outputs.
        structured: Whether the outputs come in the model's own containers and dtypes.
        narrow: Its dtype where that is another than the unfused model's, else None.
    """

    name: str
    device: str
    run: Callable[[Arguments], Any]
    structured: bool
    narrow: torch.dtype | None = None


def candidate_runner(
    fused: nn.Module | str | Path,
    place: torch.device,
    model: nn.Module,
    example: Arguments,
    providers: Sequence[Any] | None = None,
) -> Candidate:
    """Return how to run a module or an exported file.

    Args:
        fused: The module or the path.
        place: Where to run it.
        model: The unfused model.
        example: The arguments of a call of it.
        providers: What to run an ONNX file with instead of what belongs to ``place``.

    Raises:
        RequestError: It is neither, or a file of a kind that cannot be run.
    """
    if isinstance(fused, nn.Module):
        return _module_runner(fused, type(fused).__name__, place, model)
    if not isinstance(fused, str | Path):
        raise RequestError(
            f"verify compares a module or an exported file with the model and got {fused!r}: "
            "pass what bnfuse.optimize returned, or the path of an exported file."
        )
    path = Path(fused)
    if path.suffix == ".onnx":
        return _onnx_runner(path, place, model, example, providers)
    if path.suffix == ".pt2":
        from bnfuse.export.pt2 import load

        return _module_runner(load(path), path.name, place, model)
    if path.suffix in (".engine", ".plan"):
        return _engine_runner(path, model, example)
    what = f"ends in {path.suffix}" if path.suffix else "has no suffix"
    raise RequestError(
        f"verify runs files that end in .onnx, .pt2 or .engine, and {path} {what}: "
        "export the model with bnfuse.export_onnx or bnfuse.export_pt2 and pass that file."
    )


def _module_runner(fused: nn.Module, name: str, place: torch.device, model: nn.Module) -> Candidate:
    """Return how to run a copy of a module, with its inputs in its own dtype."""
    narrow = narrower(model, fused)
    return Candidate(
        name, described(place), ModuleRun(moved(fused, place, None), narrow), True, narrow
    )


def narrower(model: nn.Module, fused: nn.Module) -> torch.dtype | None:
    """Return the dtype of a candidate that was made for a narrower one than the model's.

    Such a candidate has no other; which tensor of a model with several comes first tells nothing.
    """
    tensors = [*fused.parameters(), *fused.buffers()]
    dtypes = {tensor.dtype for tensor in tensors if tensor.is_floating_point()}
    narrow = dtypes - {floating_dtype(model, ((), {}))}
    return narrow.pop() if len(dtypes) == len(narrow) == 1 else None


def _onnx_runner(
    path: Path,
    place: torch.device,
    model: nn.Module,
    example: Arguments,
    providers: Sequence[Any] | None,
) -> Candidate:
    """Return how to run an ONNX file, with its inputs in its own dtype."""
    from bnfuse.export.runtime import OnnxSession

    session = OnnxSession(path, cuda=place.type == "cuda", providers=providers)
    return _file_runner(path.name, session, model, example)


def _engine_runner(path: Path, model: nn.Module, example: Arguments) -> Candidate:
    """Return how to run a TensorRT engine, with its inputs in its own dtype."""
    from bnfuse.export.tensorrt_run import EngineSession

    session = EngineSession(path)
    return _file_runner(path.name, session, model, example)


def _file_runner(
    name: str, session: OnnxSession | EngineSession, model: nn.Module, example: Arguments
) -> Candidate:
    """Return how to run a loaded file, with its inputs in its own dtype."""
    leaves = [leaf for leaf in pytree.tree_leaves(example) if isinstance(leaf, torch.Tensor)]
    own = floating_dtype(model, ((), {}))
    given = next((leaf.dtype for leaf in leaves if leaf.is_floating_point()), own)
    narrow = None if session.dtype in (None, given) else session.dtype

    def run(arguments: Arguments) -> Any:
        return session.run(arguments if narrow is None else cast_floating(arguments, narrow))

    return Candidate(name, session.described, run, False, narrow)


def moved(model: nn.Module, place: torch.device, dtype: torch.dtype | None) -> nn.Module:
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


def described(place: torch.device) -> str:
    """Return ``cpu``, or the name of the GPU as well."""
    if place.type == "cuda":
        return f"{place} ({torch.cuda.get_device_name(place)})"
    return str(place)
