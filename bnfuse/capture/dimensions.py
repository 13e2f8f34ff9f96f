"""Let a batch norm's own check of its input's rank be traced.

``nn.BatchNorm2d.forward`` branches on ``input.dim()``, which no trace can follow. While tracing,
the check becomes a node of the graph that does the same when the graph runs.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx, nn

from bnfuse.graph.guards import add_guard, check_rank

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_RANKS = {
    nn.BatchNorm1d: (2, 3),
    nn.BatchNorm2d: (4,),
    nn.BatchNorm3d: (5,),
    nn.InstanceNorm1d: (2, 3),
    nn.InstanceNorm2d: (3, 4),
    nn.InstanceNorm3d: (4, 5),
}


def rank_checks() -> Iterator[tuple[type, str, Callable[..., Any]]]:
    """Yield what to put in place of the checks while tracing."""
    for layer, ranks in _RANKS.items():
        yield layer, "_check_input_dim", _recording(layer._check_input_dim, ranks)


def _recording(original: Callable[..., Any], ranks: tuple[int, ...]) -> Callable[..., Any]:
    def check(self: nn.Module, value: torch.Tensor | fx.Proxy) -> None:
        if type(value) is torch.Tensor or not isinstance(getattr(value, "node", None), fx.Node):
            original(self, value)
            return
        add_guard(value.tracer.graph, check_rank, value.node, ranks)  # type: ignore[union-attr]  # it is a proxy

    return check
