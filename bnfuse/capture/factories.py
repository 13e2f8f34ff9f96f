"""Let functions that make tensors be traced when their sizes are values of the graph.

``torch.arange(x.shape[1])`` has no tensor among its arguments, so PyTorch does not offer it to a
trace and it fails on a proxy. While tracing, such a call becomes a node of the graph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import fx
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FACTORIES = (
    "arange", "empty", "eye", "full", "linspace", "ones", "rand", "randint", "randn", "zeros"
)  # fmt: skip


def factories() -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """Yield what to put in place of the functions while tracing."""
    for name in _FACTORIES:
        yield torch, name, _recording(getattr(torch, name))


def _recording(original: Callable[..., Any]) -> Callable[..., Any]:
    def make(*args: Any, **kwargs: Any) -> Any:
        leaves = pytree.tree_leaves((args, kwargs))
        proxies = [leaf for leaf in leaves if type(leaf).__name__ == "RecordingProxy"]
        if not proxies:
            return original(*args, **kwargs)
        tracer: fx.Tracer = proxies[0].tracer
        return tracer.create_proxy("call_function", original, args, kwargs)

    return make
