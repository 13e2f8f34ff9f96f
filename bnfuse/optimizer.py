"""``optimize`` and ``explain``: from a model to an optimized model and its report."""

from __future__ import annotations

import difflib
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING

from bnfuse.capture import capture, check_request, copy_model
from bnfuse.errors import RequestError
from bnfuse.graph import assemble
from bnfuse.passes import PIPELINE, run_pass
from bnfuse.report import Report
from bnfuse.report.inventory import Inventory
from bnfuse.report.report import attach, report
from bnfuse.validation import verify

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from typing import Any

    from torch import nn

    from bnfuse.graph import Program


def optimize(
    model: nn.Module,
    example_inputs: Sequence[Any] | None = None,
    example_kwargs: Mapping[str, Any] | None = None,
    *,
    skip: Sequence[str] = (),
    validate: bool = True,
) -> nn.Module:
    """Return an optimized copy of a model in eval mode.

    The given model is not changed and shares no storage with the result.

    Args:
        model: Any ``nn.Module`` in eval mode.
        example_inputs: Positional arguments of a call. With them, the result is checked against
            the model in float64 before it is returned, and left unfused where the check fails.
        example_kwargs: Keyword arguments of that call.
        skip: Layers to leave alone: names (which include all they contain) or patterns of names,
            such as ``"layer1"`` or ``"*.downsample.*"``.
        validate: Whether to make that check.

    Returns:
        A ``torch.fx.GraphModule`` called like the model, with parameters that require no gradient;
        a plain copy of the model where no graph of it could be made. ``bnfuse.report`` tells what
        happened to every batch norm.

    Raises:
        RequestError: The model is no module, is in training mode, compiled, scripted or without
            values, cannot be copied, or a name in ``skip`` matches no layer.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.BatchNorm2d(8)).eval()
    >>> print(optimize(net).graph)
    graph():
        %input_1 : [num_users=1] = placeholder[target=input]
        %_0 : [num_users=1] = call_module[target=0](args = (%input_1,), kwargs = {})
        return _0
    """
    copied = copy_model(check_request(model))
    skip = _as_names(skip)
    captured = capture(copied)
    if captured.program is None:
        _check_skip(skip, copied, ())
        made = Inventory.of_modules(copied).kept_whole("not-captured", captured.obstacle)
        attach(copied, made)
        return copied
    optimized = _run_pipeline(captured.program, skip, previous=_previous_report(model))
    if validate and example_inputs is not None:
        outcome = verify(model, optimized, example_inputs, example_kwargs)
        if not outcome.passed:
            plain = copy_model(model)
            made = Inventory.of_modules(plain).kept_whole("check-failed", outcome.headline)
            attach(plain, made)
            return plain
    return optimized


def explain(model: nn.Module, *, skip: Sequence[str] = ()) -> Report:
    """Return what ``optimize`` would do to every batch norm of a model, and why.

    Args:
        model: Any ``nn.Module`` in eval mode; it is not changed.
        skip: Layers to leave alone, as in ``optimize``.

    Raises:
        RequestError: As ``optimize`` does.

    >>> import torch
    >>> net = torch.nn.Sequential(torch.nn.ReLU(), torch.nn.BatchNorm2d(8)).eval()
    >>> explain(net).kept[0].reason
    'no-linear-producer'
    """
    return report(optimize(model, skip=skip))


def _run_pipeline(program: Program, skip: tuple[str, ...], previous: Report | None) -> nn.Module:
    """Run every pass and return the assembled module with its report."""
    inventory = Inventory.of_program(program)
    _check_skip(skip, program.root, inventory.names)
    matches = _skipper(skip)
    results = [run_pass(program, one, matches) for one in PIPELINE]
    optimized = assemble(program)
    attach(optimized, inventory.settled(results, previous))
    return optimized


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


def _skipper(skip: tuple[str, ...]) -> Callable[[str], bool]:
    """Return whether a layer's name is named in ``skip``, itself or by what contains it."""

    def is_skipped(name: str) -> bool:
        return any(fnmatchcase(name, pattern) or name.startswith(f"{pattern}.") for pattern in skip)

    return is_skipped


def _check_skip(skip: tuple[str, ...], root: nn.Module, more: Sequence[str]) -> None:
    """Refuse names that match nothing, which are most likely misspelled."""
    names = [*(name for name, _ in root.named_modules() if name), *more]
    for pattern in skip:
        matches = _skipper((pattern,))
        if not any(matches(name) for name in names):
            close = difflib.get_close_matches(pattern, names, n=1)
            hint = f"did you mean {close[0]!r}?" if close else "see bnfuse.explain(model)."
            raise RequestError(f"skip names {pattern!r}, and no layer is called that: {hint}")
