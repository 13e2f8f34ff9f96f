"""What behaves as PyTorch's own: layers, subclasses included, and tensors."""

from __future__ import annotations

from itertools import takewhile
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Collection

MISSING = object()
"""Stands for a tensor or a number that a layer should have and has not."""

# What a subclass must leave alone to compute what its base computes: the methods that take part in
# a call, and the names under which tensors and options are read.
_DECISIVE = frozenset(
    {"forward", "__call__", "_call_impl", "_wrapped_call_impl", "__getattr__", "__getattribute__",
     "_conv_forward", "_output_padding", "_check_input_dim", "_check_non_zero_input_channels",
     "weight", "bias", "running_mean", "running_var", "eps", "momentum", "training",
     "track_running_stats", "stride", "padding", "dilation", "groups", "padding_mode", "p",
     "inplace", "normalized_shape", "num_groups", "max_norm"}
)  # fmt: skip


def behaves_as(module: nn.Module, known: Collection[type[nn.Module]]) -> type[nn.Module] | None:
    """Return the class in ``known`` whose forward the module runs unchanged, or None.

    A subclass that adds attributes or methods of its own counts; one that overrides anything that
    takes part in a call does not.
    """
    for ancestor in type(module).__mro__:
        if ancestor in known:
            return ancestor
        if not _DECISIVE.isdisjoint(vars(ancestor)):
            return None
    return None


def oddity(value: object) -> str:
    """Return what a value is if it is no plain dense tensor, else an empty string.

    A subclass that gives operations another meaning is not plain: only its own code knows what it
    computes.

    >>> oddity(torch.ones(2)), oddity(torch.ones(2).to_sparse()), oddity([1.0])
    ('', 'sparse_coo', 'a list')
    """
    if value is MISSING:
        return "missing"
    if not isinstance(value, torch.Tensor) or _computes_otherwise(type(value)):
        return f"a {type(value).__name__}"
    if value.is_nested:
        return "nested"
    if value.is_quantized:
        return "quantized"
    return (
        ""
        if value.layout is torch.strided
        else str(value.layout).removeprefix("torch.").lstrip("_")
    )


def _computes_otherwise(kind: type[torch.Tensor]) -> bool:
    """Whether a tensor class takes part in what operations do with its instances."""
    added = takewhile(lambda c: c not in (torch.Tensor, nn.Parameter), kind.__mro__)
    return any({"__torch_function__", "__torch_dispatch__"} & vars(c).keys() for c in added)
