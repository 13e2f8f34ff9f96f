"""Capture a model's forward as a graph, or say why that would lose something."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from bnfuse.capture.tracer import CaptureError, ModelTracer
from bnfuse.graph.program import Program

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True, slots=True)
class Capture:
    """A captured program, or the reason there is none.

    Attributes:
        program: The model and its graph, or None.
        obstacle: What stood in the way, a clause without a full stop; empty where nothing did.
    """

    program: Program | None
    obstacle: str = ""


def capture(root: nn.Module) -> Capture:
    """Trace the forward of ``root``, which becomes the program's module tree.

    Tracing runs the model's own Python, so whatever that raises is an obstacle, never an error.
    """
    if "forward" in vars(root):
        return Capture(None, "its forward was replaced on the instance")
    try:
        graph = ModelTracer().trace(root)
    except CaptureError as error:
        return Capture(None, str(error))
    except Exception as error:
        first_line = (str(error).strip().splitlines() or [""])[0]
        return Capture(None, f"tracing its forward raised {type(error).__name__}: {first_line}")
    return Capture(Program(root, graph))
