"""What there is to a model, as plain values: equal before and after whatever leaves it alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn


def snapshot(model: nn.Module) -> dict[str, Any]:
    """Return everything about a model that optimizing it could disturb."""
    found: dict[str, Any] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        found[f"{path}:class"] = type(module)
        for name, value in vars(module).items():
            found[f"{path}:{name}"] = _plain(value)
    return found


def _plain(value: Any) -> Any:
    """Return tensors by identity and bits, tables by their entries, other things by identity."""
    if isinstance(value, Tensor):
        return (id(value), value.requires_grad, value.grad_fn is None, _bits(value))
    if isinstance(value, dict):
        return [(key, _plain(entry)) for key, entry in value.items()]
    if isinstance(value, list | set | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, bool | int | float | str | type(None)):
        return value
    return id(value)


def _bits(tensor: Tensor) -> bytes:
    is_plain = type(tensor) in (Tensor, nn.Parameter) and tensor.layout is torch.strided
    if not is_plain or tensor.is_quantized or tensor.is_nested:
        return repr(tensor).encode()
    return tensor.detach().contiguous().flatten().view(torch.uint8).numpy().tobytes()


def storages(model: nn.Module) -> set[int]:
    """Return the addresses of the memory that a model's tensors, attributes included, stand in."""
    return {
        value.untyped_storage().data_ptr()
        for module in model.modules()
        for table in (module._parameters, module._buffers, vars(module))
        for value in table.values()
        if isinstance(value, Tensor) and value.numel()
    }
