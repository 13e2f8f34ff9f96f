"""``optimize`` and ``explain``: from a model to an optimized model and its report."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

import torch

from bnfuse.capture import check_example, check_request, copy_model
from bnfuse.errors import AssumptionError, RequestError
from bnfuse.graph.part import part_forward
from bnfuse.report import Report
from bnfuse.report.inventory import Inventory, summed
from bnfuse.report.report import attach, report
from bnfuse.rewriting import TreeRewriter
from bnfuse.validation import verify
from bnfuse.validation.inputs import map_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from torch import nn
    from torch.export import ExportedProgram

    from bnfuse.validation.inputs import Arguments


def optimize(
    model: nn.Module | ExportedProgram,
    example_inputs: Sequence[Any] | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    skip: Sequence[str] = (),
    validate: bool = True,
) -> nn.Module:
    """Return an optimized copy of a model in eval mode.

    The given model is not changed and shares no storage with the result.

    Args:
        model: Any ``nn.Module`` in eval mode, or an exported program.
        example_inputs: Positional arguments of a call. They settle which axis a batch norm acts on
            where the graph leaves that open; a forward that no trace can follow gets a graph for
            calls of their shapes; and the result is checked against the model in float64 before
            it is returned, and left unfused where the check fails.
        example_kwargs: Keyword arguments of that call.
        skip: Layers to leave alone: names (which include all they contain) or patterns of names,
            such as ``"layer1"`` or ``"*.downsample.*"``.
        validate: Whether to make that check.

    Returns:
        A ``torch.fx.GraphModule`` called like the model where one graph stands for every call.
        Otherwise a copy of the model whose largest parts that could be captured run graphs, each
        for the calls its graph stands for, and their own Python for all others. Parameters require
        no gradient. ``bnfuse.report`` tells what happened to every batch norm.

    Raises:
        RequestError: The model is no module, is in training mode, compiled, scripted or without
            values, it cannot run on the example inputs, or a name in ``skip`` matches no layer.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).eval()
    >>> print(optimize(net).graph)
    graph():
        %input_1 : [num_users=1] = placeholder[target=input]
        %_0 : [num_users=1] = call_module[target=0](args = (%input_1,), kwargs = {})
        return _0
    """
    model = check_request(model)
    skip = _as_names(skip)
    if example_inputs is None:
        return _optimized(model, skip)
    example = check_example(example_inputs, example_kwargs)
    optimized = _settled_by_example(model, skip, example)
    if validate:
        place = _place_of_example(optimized)
        outcome = verify(model, optimized, *example, device=place)
        if not outcome.passed:
            return _unfused(model, outcome.headline)
    return optimized


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
        example_inputs: Positional arguments of a call, as in ``optimize``.
        example_kwargs: Keyword arguments of that call.
        skip: Layers to leave alone, as in ``optimize``.

    Raises:
        RequestError: As ``optimize`` does.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(8)).eval()
    >>> explain(net).kept[0].reason
    'no-linear-producer'
    """
    made = optimize(model, example_inputs, example_kwargs, skip=skip, validate=False)
    return report(made)


def _settled_by_example(
    model: nn.Module,
    skip: tuple[str, ...],
    example: Arguments,
) -> nn.Module:
    """Return the optimized copy, without the folds that do not stand for the example's ranks."""
    other_axis: frozenset[str] = frozenset()
    while True:
        optimized = _optimized(model, skip, other_axis, example)
        site = _site_in_the_way(optimized, example)
        if site is None or site in other_axis:
            return optimized
        other_axis |= {site}


def _site_in_the_way(optimized: nn.Module, example: Arguments) -> str | None:
    """Return the batch norm whose fold does not stand for an example call, if there is one."""
    args, kwargs = map_tensors(torch.clone, example)  # a forward may write its inputs
    trial = copy_model(optimized).model
    try:
        with torch.no_grad(), torch.random.fork_rng():
            trial(*args, **kwargs)
    except AssumptionError as error:
        return error.site
    except Exception:
        return None  # whatever else is wrong with the example is said by whoever needs it
    return None


def _place_of_example(optimized: nn.Module) -> torch.device | None:
    """Return the device that graphs made for an example stand for; None where there are none."""
    for module in optimized.modules():
        forward = part_forward(module)
        if forward is not None and forward.assumptions.hold_for_one_shape:
            return next((tensor.device for tensor in module.parameters()), None)
    return None


def _optimized(
    model: nn.Module,
    skip: tuple[str, ...],
    other_axis: frozenset[str] = frozenset(),
    example: Arguments | None = None,
) -> nn.Module:
    """Return the optimized copy of a model, with its report."""
    copied = copy_model(model)
    skipped = skipper(skip)
    rewriter = TreeRewriter(copied.model, copied.by_reference, skipped, other_axis, example)
    optimized = rewriter.whole()
    made = summed(type(model).__name__, list(rewriter.outcomes.values()), _previous_report(model))
    _check_skip(skip, model, made)
    attach(optimized, made)
    return optimized


def _unfused(model: nn.Module, why: str) -> nn.Module:
    """Return a copy of the model with nothing done, since doing it went wrong."""
    plain = copy_model(model).model
    kept = Inventory.of_modules(plain).all_kept("check-failed", why)
    attach(plain, summed(type(model).__name__, [kept], None))
    return plain


def _previous_report(model: nn.Module) -> Report | None:
    """Return the report of an earlier optimization of the same model."""
    try:
        return report(model)
    except RequestError:
        return None


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
    names = [name for name, _ in model.named_modules() if name]
    names += [row.name for row in made.folded + made.kept]
    for pattern in skip:
        matches = skipper((pattern,))
        if not any(matches(name) for name in names):
            close = difflib.get_close_matches(pattern, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see bnfuse.explain(model)."
            raise RequestError(f"skip names {pattern!r}, and no layer is called that: {hint}")
