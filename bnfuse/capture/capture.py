"""Capture a module's forward as a graph, or say why that would lose something."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

from torch import fx, nn

from bnfuse.capture.baked import bake_weights
from bnfuse.capture.code import codes_of, noting_code, tests_none, untraceable
from bnfuse.capture.copying import copy_tree
from bnfuse.capture.example import ExampleAssumptions
from bnfuse.capture.inputs import takes_inputs_apart
from bnfuse.capture.signature import Assumptions, parameters_of, without_self
from bnfuse.capture.state import CONSTANT_PREFIX
from bnfuse.capture.tracer import ModelTracer
from bnfuse.capture.watch import CaptureError, RandomDrawError
from bnfuse.graph.program import Program

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import CodeType


# A thread beside may draw from PyTorch's generator during a trace; a forward that does, does again.
RANDOM_TRIES = 3
# A trace puts stand-ins in place of functions of PyTorch, which two threads must not do at once.
ONE_AT_A_TIME = threading.RLock()


@dataclass(frozen=True, slots=True)
class Capture:
    """A captured program and the calls it stands for.

    Attributes:
        program: A copy of the module's tree, sharing its tensors, and the graph.
        assumptions: Which calls the graph stands for.
    """

    program: Program
    assumptions: Assumptions | ExampleAssumptions


class Obstacle(str):
    """What stood in the way of a capture: a clause without a full stop.

    Attributes:
        changed: As in ``CaptureError``.
    """

    __slots__ = ("changed",)
    changed: frozenset[str]


def capture(
    module: nn.Module,
    by_reference: frozenset[int] = frozenset(),
    opaque: frozenset[str] = frozenset(),
) -> Capture | str:
    """Trace the forward of a module.

    Args:
        module: The module.
        by_reference: Identities of modules that cannot be copied and stay the caller's own.
        opaque: Paths of modules that stay one call each, since no trace can follow them.

    The trace runs the model's own Python on a copy of the module tree, so whatever it does or
    raises leaves the module as it was.

    Returns:
        The capture, or what stood in the way: a clause without a full stop.
    """
    return attempted(lambda: _capture(module, by_reference, opaque), "tracing its forward")


def attempted(trial: Callable[[], Capture], doing: str) -> Capture | str:
    """Return what a trial captures, or what stood in the way, one trial at a time in all threads.

    Args:
        trial: Captures, or raises.
        doing: What it does, for the clause about an exception of the model's own.
    """
    try:
        with ONE_AT_A_TIME:
            for _ in range(RANDOM_TRIES - 1):
                with suppress(RandomDrawError):
                    return trial()
            return trial()
    except CaptureError as error:
        obstacle = Obstacle(error)
        obstacle.changed = error.changed
        return obstacle
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        return f"{doing} raised {type(error).__name__}: {first_line}"


def _capture(module: nn.Module, by_reference: frozenset[int], opaque: frozenset[str]) -> Capture:
    if "forward" in vars(module):
        raise CaptureError("its forward was replaced on the instance")
    if type(module).__call__ is not nn.Module.__call__ and not isinstance(module, fx.GraphModule):
        raise CaptureError("its class overrides __call__")
    for code in codes_of(module):
        if what := untraceable(code):
            raise CaptureError(f"its forward {what}")
    root = copy_tree(module, by_reference)
    bake_weights(root, by_reference)
    forward = type(module).forward
    parameters = parameters_of(forward)
    tracer = ModelTracer(by_reference, opaque)
    graph = tracer.capture(root)
    program = Program(root, graph, by_reference)
    if any(path.startswith(CONSTANT_PREFIX) for path in program.written):
        raise CaptureError("its forward makes a tensor and then writes into it")
    if takes_inputs_apart(graph):
        _check_none_tests(copy_tree(module, by_reference), by_reference, opaque)
    assumptions = Assumptions(without_self(forward), parameters, frozenset(tracer.tensors))
    return Capture(program, assumptions)


def _check_none_tests(
    root: nn.Module, by_reference: frozenset[int], opaque: frozenset[str]
) -> None:
    """Trace once more and raise if the Python that runs has a test for None."""
    run: set[CodeType] = set()
    with noting_code(run):
        ModelTracer(by_reference, opaque).capture(root)
    if any(tests_none(code) for code in run):
        raise CaptureError("its forward tests whether a part of an input is None")
