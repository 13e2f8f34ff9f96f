"""The cases in float32, for tools that do not run them in float64."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from tests.conformance.compare import Outcome, _leaves, run

if TYPE_CHECKING:
    from benchmarks.peer_made import Tool
    from tests.conformance.case import Call, Case

RTOL, NOISE = 1e-4, 20.0


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
