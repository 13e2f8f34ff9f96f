"""Compile a model with Torch-TensorRT, for use inside PyTorch.

The program is captured from the optimized model, and its dtype is the precision: Torch-TensorRT
from 2.13 on ignores ``enabled_precisions``, and before that its engines are typed by the program as
well. Blocks of one operation are compiled too, since a folded network has few operations left.
"""

from __future__ import annotations

import importlib
import inspect
import re
from importlib import metadata
from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.utils import _pytree as pytree

from bnfuse.capture import check_example
from bnfuse.errors import ExportError, MissingDependencyError, RequestError, first_line
from bnfuse.export.prepare import is_optimized
from bnfuse.export.program import captured, quiet
from bnfuse.export.sizes import with_batch
from bnfuse.export.tensorrt_ranges import LARGEST_BATCH, ranges_of
from bnfuse.optimizer import rewritten
from bnfuse.report import report
from bnfuse.report.report import attach
from bnfuse.validation import verify as compare
from bnfuse.validation.inputs import cast_floating, floating_dtype, map_tensors
from bnfuse.validation.obstacle import check_call
from bnfuse.validation.runners import moved

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from bnfuse.export.program import Captured
    from bnfuse.export.tensorrt_ranges import Ranges
    from bnfuse.validation import Verification
    from bnfuse.validation.inputs import Arguments

DISTRIBUTIONS = ("torch-tensorrt", "torch-tensorrt-rtx")
OLDEST, NEWEST = (2, 11), (2, 14)
"""The versions whose arguments are known."""
_DTYPES = (torch.float16, torch.bfloat16, torch.float32)


class TensorrtModule(nn.Module):
    """A compiled model, called like the model it was made from.

    ``bnfuse.report`` tells what happened to every batch norm.

    Attributes:
        compiled: What Torch-TensorRT made.
        verification: The comparison with the unfused model on this GPU; None where it was asked
            not to be made.
    """

    like: torch.Tensor

    def __init__(self, compiled: nn.Module, dtype: torch.dtype, device: torch.device) -> None:
        super().__init__()
        self.compiled = compiled
        self.verification: Verification | None = None
        # Engines hold their weights to themselves: this tells the dtype of the inputs.
        like = torch.empty(0, dtype=dtype, device=device)
        self.register_buffer("like", like, persistent=False)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """Run the engines."""
        return self.compiled(*args, **kwargs)


def compile_tensorrt(
    model: nn.Module,
    example_inputs: Sequence[Any],
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dynamic_shapes: Any = None,
    dtype: torch.dtype | None = None,
    optimization_level: int | None = None,
    workspace_bytes: int = 0,
    verify: bool = True,
) -> TensorrtModule:
    """Return a model, optimized, compiled by Torch-TensorRT for the GPU in use.

    Args:
        model: The model in eval mode, or what ``optimize`` returned for it; it is not changed.
        example_inputs: Positional arguments of a call; the engines are to be fastest at their
            sizes.
        example_kwargs: Keyword arguments of that call.
        dynamic_shapes: The sizes to leave open, as in ``export_tensorrt``; by default the first
            axis of every input, from 1 to 32 or the example's size, where the model allows it.
        dtype: ``torch.float16`` or ``torch.bfloat16`` to compute in, as in ``optimize``: inputs and
            outputs are in it too. Float32 is computed without TF32.
        optimization_level: How long TensorRT may search, from 0 to 5; its own choice by default.
        workspace_bytes: How much memory an engine may use to work in; 0 for what there is.
        verify: Whether to compare the result with the unfused model.

    Raises:
        RequestError: The model is not one that ``optimize`` takes, or an option does not fit it.
        ExportError: There is no GPU, the version of Torch-TensorRT is not known, or it does not
            take the model.
        VerificationError: The result does not compute what the model computes.
        MissingDependencyError: Torch-TensorRT is not installed, or does not import.
    """
    call = check_example(example_inputs, example_kwargs)
    computed = dtype or floating_dtype(model, call)
    if computed not in _DTYPES:
        raise RequestError(
            f"TensorRT does not compute in {computed}: pass dtype=torch.float16 or "
            "torch.bfloat16, or a model in torch.float32."
        )
    if optimization_level is not None and not 0 <= optimization_level <= 5:
        raise RequestError(f"optimization_level is {optimization_level}: pass 0 to 5, or none.")
    ranges = ranges_of(model, call, dynamic_shapes)
    backend = load_backend()
    check_call(model, call)
    optimized = model if is_optimized(model) else rewritten(model, *call, dtype=dtype)
    device = _device()
    cast = call if dtype is None else cast_floating(call, dtype)
    on_device = map_tensors(lambda tensor: tensor.to(device), cast)
    program = program_of(moved(optimized, device, None), on_device, dynamic_shapes)
    settings = settings_of(optimization_level, workspace_bytes) | {"device": device}
    compiled = _compiled(backend, program, on_device, ranges, settings)
    made = TensorrtModule(compiled, computed, device)
    attach(made, report(optimized))
    if verify:
        made.verification = compare(model, made, *call, device=device).raise_if_failed()
    return made


def settings_of(optimization_level: int | None, workspace_bytes: int) -> dict[str, Any]:
    """Return the arguments of ``torch_tensorrt.dynamo.compile`` beside program and inputs.

    All have the same names and meanings from 2.11 to 2.14. Precision is none of them.
    """
    settings: dict[str, Any] = {
        "min_block_size": 1,
        "disable_tf32": True,
        "workspace_size": workspace_bytes,
    }
    if optimization_level is not None:
        settings["optimization_level"] = optimization_level
    return settings


def load_backend() -> Any:
    """Import Torch-TensorRT where it can be used.

    Raises:
        MissingDependencyError: It is not installed, or does not import.
        ExportError: There is no GPU, or it is of another version.
    """
    versions = dict(filter(None, map(_installed, DISTRIBUTIONS)))
    if not versions:
        raise MissingDependencyError(
            "torch_tensorrt is needed to compile with TensorRT and is not installed: "
            "pip install 'bnfuse[tensorrt]'."
        )
    for name, version in versions.items():
        numbers = tuple(map(int, re.findall(r"\d+", version)[:2]))
        if not OLDEST <= numbers <= NEWEST:
            raise ExportError(
                f"{name} {version} is installed, and its arguments are known from 2.11 to 2.14: "
                f"pip install '{name}>=2.11,<2.15'."
            )
    if not torch.cuda.is_available():
        raise ExportError(
            "Torch-TensorRT compiles for the GPU in use, and there is no NVIDIA GPU or driver "
            "here: run this where there is one, or build with bnfuse.export_tensorrt."
        )
    try:
        with quiet():
            return importlib.import_module("torch_tensorrt")
    except Exception as error:  # missing libraries and drivers raise OSError, RuntimeError, ...
        raise MissingDependencyError(
            f"torch_tensorrt is installed and does not import ({type(error).__name__}: "
            f"{first_line(error)}): reinstall 'bnfuse[tensorrt]' with the version of torch that "
            "it names."
        ) from error


def _device() -> torch.device:
    """Return the GPU in use."""
    return torch.device("cuda", torch.cuda.current_device())


def _installed(distribution: str) -> tuple[str, str] | None:
    try:
        return distribution, metadata.version(distribution)
    except metadata.PackageNotFoundError:
        return None


def program_of(module: nn.Module, call: Arguments, dynamic_shapes: Any) -> Captured:
    """Capture a module, with its batch size open within bounds where nothing else is asked for."""
    if dynamic_shapes is not None:
        return captured(module, call, dynamic_batch=False, dynamic_shapes=dynamic_shapes)
    tensors = [leaf for leaf in pytree.tree_leaves(call) if isinstance(leaf, torch.Tensor)]
    largest = max([LARGEST_BATCH, *(tensor.shape[0] for tensor in tensors if tensor.ndim)])
    batch = torch.export.Dim("batch", min=1, max=largest)
    args, kwargs = call
    names = list(inspect.signature(module.forward).parameters)
    given = {**dict(zip(names, args, strict=False)), **kwargs}
    shapes = pytree.tree_map(
        lambda leaf: {0: batch} if isinstance(leaf, torch.Tensor) and leaf.ndim else None, given
    )
    try:
        return captured(module, with_batch(call, 2), dynamic_batch=False, dynamic_shapes=shapes)
    except ExportError:  # the model fixes its batch size
        return captured(module, call, dynamic_batch=False)


def _compiled(
    backend: Any, made: Captured, call: Arguments, ranges: Ranges, settings: dict[str, Any]
) -> nn.Module:
    """Compile a captured program."""
    leaves, form = pytree.tree_flatten(call)
    tensors = [index for index, leaf in enumerate(leaves) if isinstance(leaf, torch.Tensor)]
    for index, axes, sizes in zip(tensors, made.open_axes, ranges, strict=True):
        if axes:
            leaves[index] = _open_input(backend, leaves[index], axes, sizes)
    args, kwargs = pytree.tree_unflatten(leaves, form)
    try:
        with quiet():
            compiled: nn.Module = backend.dynamo.compile(
                made.program, arg_inputs=list(args), kwarg_inputs=dict(kwargs), **settings
            )
    except Exception as error:
        raise ExportError(
            f"Torch-TensorRT cannot compile the model ({type(error).__name__}: "
            f"{first_line(error)}): bnfuse.export_tensorrt may, or the fused module itself."
        ) from error
    return compiled


def _open_input(backend: Any, tensor: torch.Tensor, axes: dict[int, str], sizes: Any) -> Any:
    """Return Torch-TensorRT's description of an input with open sizes."""
    shapes = {
        f"{which}_shape": tuple(
            getattr(sizes[axis], field) if axis in axes else size
            for axis, size in enumerate(tensor.shape)
        )
        for which, field in (("min", "smallest"), ("opt", "best"), ("max", "largest"))
    }
    return backend.Input(dtype=tensor.dtype, **shapes)
