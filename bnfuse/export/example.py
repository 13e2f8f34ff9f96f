"""Inputs for a program that was loaded, made from what it says of its inputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from bnfuse.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor, nn


def example_for(
    module: nn.Module, shapes: Sequence[Sequence[int]] = (), seed: int = 0
) -> tuple[Any, ...]:
    """Return random positional arguments for what ``load`` returned.

    Open batch sizes are 1 where the program takes that, other open sizes those it was captured
    with. Floating-point tensors are drawn from N(0, 1), others are zeros.

    Args:
        module: The module.
        shapes: The shapes of the tensors, in order, instead.
        seed: The seed.

    Raises:
        RequestError: The program takes arguments by name or other than tensors, or another number
            of tensors than there are shapes.
    """
    nodes = module.graph.find_nodes(op="placeholder")  # type: ignore[operator, union-attr]  # it has one
    values = [node.meta.get("val") for node in nodes]
    spec = module._in_spec
    if not all(isinstance(value, torch.Tensor) for value in values):
        raise RequestError("the archive takes inputs that are no tensors: load it in Python.")
    if shapes and len(shapes) != len(values):
        raise RequestError(
            f"the archive takes {len(values)} tensors and {len(shapes)} shapes are given: "
            "give the shape of each."
        )
    generator = torch.Generator().manual_seed(seed)
    wanted = shapes or [_sizes(value) for value in values]
    drawn = [_drawn(v, s, generator) for v, s in zip(values, wanted, strict=True)]
    args, kwargs = pytree.tree_unflatten(drawn, spec)  # type: ignore[arg-type]  # it is one
    if kwargs:
        raise RequestError(
            f"the archive takes arguments by name ({', '.join(kwargs)}): load it in Python with "
            "bnfuse.load."
        )
    return tuple(args)


def _sizes(value: Tensor) -> list[int]:
    sizes: list[Any] = list(value.shape)
    return [
        _open_size(size, axis) if isinstance(size, torch.SymInt) else int(size)
        for axis, size in enumerate(sizes)
    ]


def _open_size(size: Any, axis: int) -> int:
    """Return a size for an open axis: 1 for a batch, else that of the example."""
    ranges = size.node.shape_env.var_to_range
    known = ranges.get(size.node.expr)
    if axis == 0 and known is not None and known.lower <= 1 <= known.upper:
        return 1
    return int(size.node.hint)


def _drawn(value: Tensor, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    if not value.dtype.is_floating_point:
        return torch.zeros(tuple(shape), dtype=value.dtype)
    return torch.randn(tuple(shape), generator=generator).to(value.dtype)
