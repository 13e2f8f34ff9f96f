"""The tools that fold batch norms, each behind one interface: made once, then called like a model.

None of them is helped or hindered: each gets the model in eval mode, under ``torch.no_grad()``, and
the example inputs where it takes some. What runs afterwards is counted where it runs.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

import torch

import bnfuse
from benchmarks.peer_inductor import made_inductor
from benchmarks.peer_made import Made, Tool
from benchmarks.peer_onnx import made_onnx
from tests.conformance.compare import Kernels, run

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Callable

    from torch import nn

    from tests.conformance.case import Call, Case

OF_THE_CASES = (  # forwards written as lambdas, and annotations that say Any
    "Expected a single top-level function",
    "SyntaxError",
    "found type: 'Any'",
    "value of type 'Any'",
    "'Any' object",
)


def eager_ops(runs: Any) -> Callable[[Call, Case], Counter[str]]:
    """Return what counts the aten operations of a call as they are dispatched."""

    def ops(call: Call, case: Case) -> Counter[str]:
        counted = Kernels()
        with counted:
            outcome = run(runs, call, case)
        if outcome.error is not None:
            raise outcome.error
        return counted.count

    return ops


def made_bnfuse(model: nn.Module, call: Call) -> Made:
    """Fold with bnfuse."""
    fused = bnfuse.optimize(model, call.args, dict(call.kwargs))
    return Made(fused, eager_ops(fused), state=fused)


def made_fx(model: nn.Module, _: Call) -> Made:
    """Fold with the fuse of torch.fx."""
    from torch.fx.experimental.optimization import fuse

    fused = fuse(model)
    return Made(fused, eager_ops(fused), state=fused)


def forget_types() -> None:
    """Empty TorchScript's table of types, else an earlier case may decide how one is compiled."""
    store: Any = torch.jit._recursive.concrete_type_store
    store.type_store.clear()
    store.methods_compiled.clear()


def made_script(model: nn.Module, _: Call) -> Made:
    """Script and freeze."""
    forget_types()
    frozen = torch.jit.freeze(torch.jit.script(model))
    return Made(frozen, eager_ops(frozen))


def made_trace(model: nn.Module, call: Call) -> Made:
    """Trace and freeze."""
    forget_types()
    trace: Any = torch.jit.trace  # torch leaves it unannotated
    if call.kwargs:
        bound = inspect.signature(model.forward).bind(*call.args, **call.kwargs)
        traced = trace(model, example_kwarg_inputs=dict(bound.arguments), strict=False)
    else:
        traced = trace(model, call.args, strict=False)
    frozen = torch.jit.freeze(traced)
    return Made(frozen, eager_ops(frozen))


DISPATCHED = "aten batch norms dispatched in a call"
TOOLS = {
    "fx": Tool(title="torch.fx fuse", make=made_fx, counted=DISPATCHED),
    "script": Tool(
        title="jit.script + freeze",
        make=made_script,
        counted=DISPATCHED,
        loose=True,
        shared=True,
        unfair=OF_THE_CASES,
    ),
    "trace": Tool(
        title="jit.trace + freeze",
        make=made_trace,
        counted=DISPATCHED,
        loose=True,
        traces=True,
        shared=True,
    ),
    "inductor": Tool(
        title="torch.compile, freezing",
        make=made_inductor,
        counted="batch norms, or pieces of them, in the graphs handed to the code generator",
        shared=True,
        own_random=True,
    ),
    "onnxruntime": Tool(
        title="torch.onnx + onnxruntime",
        make=made_onnx,
        counted="BatchNormalization and InstanceNormalization in the graph that onnxruntime has "
        "optimized, and convolutions there that the exported graph does not have",
        traces=True,
        loose=True,
        pure=True,
        own_random=True,
        single=True,
        unfair=("Could not find an implementation for BatchNormalization",),  # a cast to float64
    ),
    "bnfuse": Tool(title="bnfuse", make=made_bnfuse, counted=DISPATCHED),
}
