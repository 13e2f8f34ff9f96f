"""Sets of inputs to compare models on, made from one example."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from torch import Tensor

Arguments = tuple[tuple[Any, ...], dict[str, Any]]
"""The positional and the keyword arguments of a call."""


def input_sets(
    args: Sequence[Any], kwargs: Mapping[str, Any] | None, count: int, seed: int
) -> list[Arguments]:
    """Return the example and ``count - 1`` random sets of the same shapes and dtypes.

    Floating-point tensors are drawn from a normal distribution with the example's mean and
    standard deviation, so that both signs occur; everything else, sparse and nested tensors
    included, stays as in the example.
    """
    if isinstance(args, torch.Tensor):
        args = (args,)
    example: Arguments = (tuple(args), dict(kwargs or {}))
    generator = torch.Generator().manual_seed(seed)
    drawn = [map_tensors(lambda t: _drawn_like(t, generator), example) for _ in range(count - 1)]
    return [map_tensors(torch.Tensor.detach, example), *drawn]


def map_tensors(function: Callable[[Tensor], Tensor], arguments: Arguments) -> Arguments:
    """Apply a function to every tensor in the arguments, however nested."""
    mapped: Arguments = pytree.tree_map_only(torch.Tensor, function, arguments)
    return mapped


def is_dense(tensor: Tensor) -> bool:
    """Whether a tensor stores each of its elements: it is neither sparse nor nested."""
    return tensor.layout is torch.strided and not tensor.is_nested


def cast_floating(arguments: Arguments, dtype: torch.dtype) -> Arguments:
    """Return the arguments with every floating-point tensor in ``dtype``."""
    return map_tensors(lambda t: t.to(dtype) if t.is_floating_point() else t, arguments)


def floating_dtype(model: torch.nn.Module, arguments: Arguments) -> torch.dtype:
    """Return the floating-point dtype a model computes in, as far as one can be named."""
    tensors = [*model.parameters(), *model.buffers()]
    tensors += [t for t in pytree.tree_leaves(arguments) if isinstance(t, torch.Tensor)]
    return next((t.dtype for t in tensors if t.is_floating_point()), torch.get_default_dtype())


def _drawn_like(example: Tensor, generator: torch.Generator) -> Tensor:
    """Draw a tensor with the shape, dtype, device, mean and spread of ``example``."""
    if not example.is_floating_point() or not is_dense(example):
        return example.detach()
    values = example.detach().to("cpu", torch.float64)
    spread = float(values.std(correction=0)) if values.numel() else 0.0
    centre = float(values.mean()) if values.numel() else 0.0
    noise = torch.randn(values.shape, dtype=torch.float64, generator=generator)
    drawn = torch.empty_like(example.detach())
    return drawn.copy_(noise * (spread or 1.0) + centre)
