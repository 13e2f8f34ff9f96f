"""Hooks a user put on a module: code that runs around its forward and that no graph shows."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import nn

FORWARD_HOOKS = (
    "_forward_hooks",
    "_forward_pre_hooks",
    "_forward_hooks_with_kwargs",
    "_forward_hooks_always_called",
    "_forward_pre_hooks_with_kwargs",
)


def is_hooked(module: nn.Module) -> bool:
    """Whether calling the module runs more than its class's own forward.

    >>> import torch
    >>> layer = torch.nn.ReLU()
    >>> is_hooked(layer)
    False
    >>> _ = layer.register_forward_hook(print)
    >>> is_hooked(layer)
    True
    """
    return bool(module._forward_hooks or module._forward_pre_hooks or "forward" in module.__dict__)
