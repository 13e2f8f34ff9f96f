"""Round the weights of a folded graph once more, for the inputs that its layers are given.

While passes run, tensors of half precision are the nearest to the float64 values they stand for,
and remember those. When all passes are done the graph is run on a copy, in float32, on the example,
or on normal noise of two common sizes where there is none. Then the weights of each
convolution and linear layer are rounded so that the errors cancel for what it was given
(``bnfuse.affine.feedback``). Where no run is possible they stay the nearest.
"""

from __future__ import annotations

from collections import Counter
from itertools import islice
from typing import TYPE_CHECKING, Any

import torch
from torch import fx

from bnfuse.affine import as_float64, is_rounded
from bnfuse.affine.feedback import round_with_feedback
from bnfuse.capture.copying import copy_model
from bnfuse.graph import Program
from bnfuse.graph.hooks import is_hooked
from bnfuse.ops.calls import read_call
from bnfuse.ops.moments import moments_of
from bnfuse.regions.observe import call_arguments
from bnfuse.validation.inputs import cast_floating, map_tensors

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from bnfuse.affine.feedback import Moments
    from bnfuse.ops import Call
    from bnfuse.validation.inputs import Arguments

MOST_SIZES = 2
_HALVES = (torch.float16, torch.bfloat16)


def calibrate(program: Program, example: Callable[[], Arguments | None]) -> int:
    """Round the weights of half precision in a program for the inputs of their layers.

    Args:
        program: The program, after all passes.
        example: Returns the arguments of a call, or None.

    Returns:
        How many layers were rounded.
    """
    layers = _layers(program)
    copied = _copied(program) if layers else None
    given = example() if copied is not None else None
    if copied is None or (given is None and not _runs_unseen(program)):
        return 0
    found: dict[fx.Node, Moments] = {}
    for moments in islice(_runs(copied, layers, given), MOST_SIZES):
        found = {n: found[n].joined(m) if n in found else m for n, m in moments.items()}
    for node, moments_of_node in found.items():
        _round(layers[node], moments_of_node)
    return len(found)


def _copied(program: Program) -> Program | None:
    """Return a program of the same graph over a copy in float32; None where there is no copy."""
    try:
        copied = copy_model(program.root)
        single = copied.model.float()
    except Exception:  # odd tensors and modules refuse either in their own ways
        return None
    return None if copied.by_reference else Program(single, program.graph)


def _runs_unseen(program: Program) -> bool:
    """Whether a graph runs nobody's own code, which might print; an example is run in any case."""
    called = [str(node.target) for node in program.graph.nodes if node.op == "call_module"]
    modules = [program.module(path) for path in called]
    own = ("torch.nn.", "bnfuse.")
    return all(type(m).__module__.startswith(own) and not is_hooked(m) for m in modules)


def _runs(
    program: Program, layers: dict[fx.Node, Call], example: Arguments | None
) -> Iterator[dict[fx.Node, Moments]]:
    """Yield what layers are given in one run after another."""
    for arguments in call_arguments(program, example):
        try:
            yield _observed(program, layers, arguments)
        except Exception:
            continue  # the next size may do


def _layers(program: Program) -> dict[fx.Node, Call]:
    """Return the call sites with a rounded weight that nothing else reads."""
    found = {}
    readers: Counter[int] = Counter()
    for node in program.graph.nodes:
        call = read_call(program, node)
        weight = call.tensor("weight") if call is not None and call.kind.is_linear else None
        if call is None or weight is None or weight.dtype not in _HALVES:
            continue
        readers[id(weight)] += 1
        if is_rounded(weight) and torch.isfinite(weight).all():
            found[node] = call
    return {node: call for node, call in found.items() if readers[id(call.weight)] == 1}


def _observed(
    program: Program, layers: dict[fx.Node, Call], arguments: tuple[Any, ...]
) -> dict[fx.Node, Moments]:
    """Run the graph and return what the layers are given."""
    recorder = _Recorder(program, layers)
    with torch.no_grad(), torch.random.fork_rng(devices=[]):
        recorder.run(*map_tensors(torch.clone, cast_floating((arguments, {}), torch.float32))[0])
    return recorder.found


class _Recorder(fx.Interpreter):
    """Runs a graph and keeps the moments of what some layers are given."""

    def __init__(self, program: Program, layers: dict[fx.Node, Call]) -> None:
        super().__init__(program.root, graph=program.graph)
        self.layers = layers
        self.found: dict[fx.Node, Moments] = {}

    def run_node(self, n: fx.Node) -> Any:
        """Run one node."""
        if n in self.layers:
            moments = moments_of(self.layers[n], self.env[self.layers[n].input])
            self.found |= {n: moments} if moments is not None else {}
        return super().run_node(n)


def _is_open(bias: Tensor, dtype: torch.dtype) -> bool:
    """Whether a bias is to be rounded with the weight."""
    return is_rounded(bias) and bias.dtype is dtype and bool(torch.isfinite(bias).all())


def _round(call: Call, moments: Moments) -> None:
    """Write the weights of a layer, rounded for its inputs."""
    weight, bias = call.weight, call.tensor("bias")
    if not moments.is_finite:
        return
    exact = as_float64(bias).cpu() if bias is not None and _is_open(bias, weight.dtype) else None
    rows, shifts = round_with_feedback(as_float64(weight).cpu(), exact, moments, weight.dtype)
    with torch.no_grad():
        weight.copy_(rows)
        if bias is not None and shifts is not None:
            bias.copy_(shifts)
