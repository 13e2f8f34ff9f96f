"""Functions that stand in an optimized graph and refuse calls it was not captured for.

They return their input, cost a fraction of a microsecond, and vanish under ``torch.export`` and
``torch.onnx``, where shapes and Python values are known while tracing.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch.fx.node import has_side_effect

from bnfuse.errors import AssumptionError

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor, fx

    from bnfuse.graph.program import Program


def assume_rank(value: Tensor, rank: int, site: str) -> Tensor:
    """Return ``value`` if it has ``rank`` dimensions.

    Raises:
        AssumptionError: It has another rank, so that the batch norm folded at ``site`` would have
            normalized another axis than the one it was folded on.

    >>> import torch
    >>> assume_rank(torch.zeros(2, 3), 2, "bn").shape
    torch.Size([2, 3])
    """
    if value.ndim != rank:
        raise AssumptionError(
            f"the batch norm {site!r} was folded for values with {rank} dimensions and this call "
            f"has {value.ndim}: optimize with skip=({site!r},), or with example_inputs like these, "
            "to run such calls.",
            site,
        )
    return value


def check_rank(value: Tensor, ranks: tuple[int, ...]) -> None:
    """Check the rank of a batch norm's input, as the layer itself does.

    Raises:
        ValueError: It is none of ``ranks``.

    >>> import torch
    >>> check_rank(torch.zeros(2, 3), (2, 3))
    """
    if value.ndim not in ranks:
        expected = " or ".join(f"{rank}D" for rank in ranks)
        raise ValueError(f"expected {expected} input (got {value.ndim}D input)")


has_side_effect(assume_rank)
has_side_effect(check_rank)


def add_guard(graph: fx.Graph, guard: Callable[..., Any], *args: Any) -> fx.Node:
    """Put a call of a guard into a graph, at its insertion point, and return the node.

    The note makes the generated source say that the guard is a leaf, so that a tracer that reads
    the source keeps the call instead of running it.
    """
    node = graph.call_function(guard, args)
    node.meta["is_wrapped"] = True
    return node


def guard_rank(program: Program, value: fx.Node, rank: int, site: str) -> None:
    """Make sure of the rank of a value, as early in the graph as that can be told.

    What comes before the value may count on its rank too, and has to be refused as clearly. So the
    guard is on the first value whose rank tells that one, an input of the model as a rule.

    Args:
        program: The program.
        value: The value.
        rank: How many dimensions it has to have.
        site: The batch norm that was folded on one of them.
    """
    ranks = program.shapes.ranks
    told = ((node, ranks.implied(node, value, rank)) for node in program.graph.nodes)
    first, wanted = next((node, known) for node, known in told if known is not None)
    inputs = program.graph.find_nodes(op="placeholder")
    with program.graph.inserting_after(inputs[-1] if first in inputs else first):
        add_guard(program.graph, assume_rank, first, wanted, site)
