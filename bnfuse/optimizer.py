"""``optimize`` and ``explain``: from a model to an optimized model and its report."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch

from bnfuse.attempts import Request, optimized
from bnfuse.capture import check_example, check_request
from bnfuse.errors import RequestError
from bnfuse.kernels.tune import tune as measure
from bnfuse.passes import PIPELINE, Pass
from bnfuse.report.report import report
from bnfuse.validation.inputs import map_tensors
from bnfuse.validation.obstacle import beside, check_call

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from torch import nn
    from torch.export import ExportedProgram

    from bnfuse.report import Report


_DTYPES = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def optimize(
    model: nn.Module | ExportedProgram,
    example_inputs: Sequence[Any] | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    dtype: torch.dtype | None = None,
    skip: Sequence[str] = (),
    tune: bool = False,
    validate: bool = True,
) -> nn.Module:
    """Return an optimized copy of a model in eval mode.

    The given model is not changed and shares no storage with the result.

    Args:
        model: Any ``nn.Module`` in eval mode, or an exported program.
        example_inputs: Positional arguments of a call. They settle which axis a batch norm acts on
            where the graph leaves that open; a forward that no trace can follow gets a graph for
            calls of their shapes; and the result is checked against the model in float64 before
            it is returned. Where that fails, the rewrite to blame is found and left out.
        example_kwargs: Keyword arguments of that call.
        dtype: ``torch.float16`` or ``torch.bfloat16``, for a result in that dtype: like
            ``model.to(dtype)``, but folded in float64 from the values as they are and rounded once.
            The caller converts the inputs, as for ``model.to(dtype)``.
        skip: Layers to leave alone: names (which include all they contain) or patterns of names,
            such as ``"layer1"`` or ``"*.downsample.*"``.
        tune: Whether to measure, for the example, which kernel is faster for each fused layer. The
            outcome is kept in the user's cache folder, or in that of ``BNFUSE_CACHE``, for each
            processor, number of threads and version of PyTorch.
        validate: Whether to make that check, and to check each rewrite: what it changed is run
            before and after it in float64, on random inputs of small sizes.

    Returns:
        A ``torch.fx.GraphModule`` called like the model where one graph stands for every call.
        Otherwise a copy of the model whose largest parts that could be captured run graphs, each
        for the calls its graph stands for, and their own Python for all others. Parameters require
        no gradient. ``bnfuse.report`` tells what happened to every batch norm.

    Raises:
        RequestError: The model is no module, is in training mode, compiled, scripted or without
            values, it cannot run on the example inputs, ``dtype`` is none to compute in, ``tune``
            is asked for without example inputs, or a name in ``skip`` matches no layer.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).eval()
    >>> print(optimize(net).graph)
    graph():
        %input_1 : [num_users=1] = placeholder[target=input]
        %_0 : [num_users=1] = call_module[target=0](args = (%input_1,), kwargs = {})
        return _0
    """
    model = check_request(model)
    names = _as_names(skip)
    example = None if example_inputs is None else check_example(example_inputs, example_kwargs)
    if dtype is not None and dtype not in _DTYPES:
        raise RequestError(f"dtype is {dtype!r}: pass torch.float16 or torch.bfloat16, or none.")
    if tune and example is None:
        raise RequestError("tune=True measures the layers on a call: pass example_inputs.")
    request = Request(model, skipper(names), example, dtype, validate, validate)
    made = _made(request, names)
    if tune and request.call is not None:
        args, kwargs = map_tensors(torch.clone, request.call)  # a forward may write its inputs
        measure(made, lambda: made(*args, **kwargs))
    return made


def explain(
    model: nn.Module | ExportedProgram,
    example_inputs: Sequence[Any] | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    skip: Sequence[str] = (),
) -> Report:
    """Return what ``optimize`` would do to every batch norm of a model, and why.

    Args:
        model: Any ``nn.Module`` in eval mode; it is not changed.
        example_inputs: Positional arguments of a call, as in ``optimize``; a copy of the model is
            called with them first.
        example_kwargs: Keyword arguments of that call.
        skip: Layers to leave alone, as in ``optimize``.

    Raises:
        RequestError: As ``optimize`` does.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(8)).eval()
    >>> explain(net).kept[0].reason
    'no-linear-producer'
    """
    model = check_request(model)
    if example_inputs is not None:
        example = check_example(example_inputs, example_kwargs)
        check_call(model, beside(model, example))  # optimize compares on it, and would say so
    return report(rewritten(model, example_inputs, example_kwargs, skip=skip))


def rewritten(
    model: nn.Module | ExportedProgram,
    example_inputs: Sequence[Any] | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    skip: Sequence[str] = (),
    dtype: torch.dtype | None = None,
    pipeline: tuple[Pass, ...] = PIPELINE,
) -> nn.Module:
    """Return what ``optimize`` does, each rewrite checked, the whole not: the caller sees to that.

    Args:
        model: As in ``optimize``.
        example_inputs: As in ``optimize``.
        example_kwargs: As in ``optimize``.
        skip: As in ``optimize``.
        dtype: As in ``optimize``.
        pipeline: The passes to run.

    Raises:
        RequestError: As ``optimize`` does.
    """
    model = check_request(model)
    names = _as_names(skip)
    example = None if example_inputs is None else check_example(example_inputs, example_kwargs)
    request = Request(model, skipper(names), example, dtype, is_verified=False, pipeline=pipeline)
    return _made(request, names)


def _made(request: Request, skip: tuple[str, ...]) -> nn.Module:
    made = optimized(request)
    _check_skip(skip, request.model, report(made))
    return made


def _as_names(skip: Sequence[str]) -> tuple[str, ...]:
    if isinstance(skip, str):
        raise RequestError(f"skip takes a sequence of names: write skip=({skip!r},).")
    return tuple(skip)


def skipper(skip: tuple[str, ...]) -> Callable[[str], bool]:
    """Return whether a layer's name is named in ``skip``, itself or by what contains it."""

    def is_skipped(name: str) -> bool:
        return any(fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for pattern in skip)

    return is_skipped


def _check_skip(skip: tuple[str, ...], model: nn.Module, made: Report) -> None:
    """Refuse names that match nothing, which are most likely misspelled."""
    if not skip:
        return
    names = [name for name, _ in model.named_modules() if name]
    names += [row.name for row in made.folded + made.kept]
    for pattern in skip:
        matches = skipper((pattern,))
        if not any(matches(name) for name in names):
            close = difflib.get_close_matches(pattern, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see bnfuse.explain(model)."
            raise RequestError(f"skip names {pattern!r}, and no layer is called that: {hint}")
