"""The cases as tools can take them: their calls, in float32 where float64 does not run."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.conformance.compare import Outcome, _leaves, differences, run

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.peer_made import Tool
    from tests.conformance.case import Call, Case

RTOL, NOISE = 1e-4, 20.0
EXAMPLE_CALLS = 2


class UnfairError(Exception):
    """The case cannot be put to this tool."""


def calls(case: Case) -> list[Callable[[], Call]]:
    """Return what makes the arguments of each call anew."""
    more = [lambda n=n: case.more()[n] for n in range(len(case.more()))]
    return [lambda: case.example] * EXAMPLE_CALLS + more


def single(tool: Tool, case: Case) -> bool:
    """Whether a case made in float64 has to be brought to float32."""
    model = case.build()
    return tool.single and any(
        tensor.dtype == torch.float64 for tensor in (*model.parameters(), *model.buffers())
    )


def prepared(tool: Tool, case: Case) -> nn.Module:
    """Return the model of a case as a tool can take it."""
    model = case.build()
    return model.float() if single(tool, case) else model


def cast(tool: Tool, case: Case, call: Call) -> Call:
    """Return a call as a tool can take it."""
    if not single(tool, case):
        return call

    def lower(value: Any) -> Any:
        is_double = isinstance(value, Tensor) and value.dtype == torch.float64
        return value.float() if is_double else value

    args, kwargs = pytree.tree_map(lower, (call.args, dict(call.kwargs)))
    return replace(call, args=args, kwargs=kwargs)


def tolerance(tool: Tool, case: Case, wanted: Outcome, call: Call) -> float:
    """Return the relative deviation to allow: in float32, well over what the model itself has."""
    if not single(tool, case):
        return case.rtol
    exact = run(case.build(), call, case)
    noise = 0.0
    for rounded, value in zip(_leaves(wanted.output), _leaves(exact.output), strict=False):
        if rounded.numel() and rounded.shape == value.shape:
            off = (rounded.double() - value.double()).abs().nan_to_num(0.0).max()
            largest = float(value.double().abs().nan_to_num(0.0).max())
            noise = max(noise, float(off) / largest if largest else 0.0)
    return max(case.rtol, RTOL, NOISE * noise)


def check_single(tool: Tool, case: Case) -> None:
    """Raise where the model itself does not run in float32."""
    for call in calls(case):
        error = run(prepared(tool, case), cast(tool, case, call()), case).error
        if error is not None and run(case.build(), call(), case).error is None:
            raise UnfairError(f"the model does not run in float32: {error!r}"[:200])


def draws(case: Case) -> bool:
    """Whether the output depends on the seed."""
    model = case.build()

    def reseeded(*args: Any, **kwargs: Any) -> Any:
        torch.manual_seed(4)
        return model(*args, **kwargs)

    first = run(case.build(), case.example, case)
    other = run(reseeded, case.example, case)  # type: ignore[arg-type]  # called like a model
    return bool(differences(list(_leaves(first.output)), list(_leaves(other.output)), 1e-6))
