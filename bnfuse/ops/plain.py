"""Which of PyTorch's own layers a module behaves as, subclasses included."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Collection

    from torch import nn

# What a subclass must leave alone to compute what its base computes: the methods that take part in
# a call, and the names under which tensors and options are read.
_DECISIVE = frozenset(
    {"forward", "__call__", "_call_impl", "_wrapped_call_impl", "__getattr__", "__getattribute__",
     "_conv_forward", "_output_padding", "_check_input_dim", "_check_non_zero_input_channels",
     "weight", "bias", "running_mean", "running_var", "eps", "momentum", "training",
     "track_running_stats", "stride", "padding", "dilation", "groups", "padding_mode", "p",
     "inplace"}
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
