"""Short spellings of the layers, models and inputs that the cases are made of."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from collections.abc import Callable


def conv(inputs: int, outputs: int, kernel: int | tuple[int, int] = 3, **options: Any) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, kernel, **options)


def norm(channels: int, **options: Any) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, **options)


def block(inputs: int = 3, outputs: int = 4, **options: Any) -> nn.Sequential:
    return nn.Sequential(conv(inputs, outputs, **options), norm(outputs))


def net(forward: Callable[..., Any], **parts: Any) -> nn.Module:
    """Return a module of a new class with this forward; tensors become its buffers."""
    model: nn.Module = type("Net", (nn.Module,), {"forward": forward})()
    for name, part in parts.items():
        if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
            model.register_buffer(name, part)
        else:
            setattr(model, name, part)
    return model


def pair(forward: Callable[..., Any], **parts: Any) -> nn.Module:
    """Return such a module with a convolution ``c`` of 3 to 4 channels and its norm ``b``."""
    return net(forward, **{"c": conv(3, 4), "b": norm(4), **parts})


def sample(*shape: int, seed: int = 1, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


def given(*shapes: tuple[int, ...], dtype: torch.dtype = torch.float64) -> Callable[[], Any]:
    """Return what makes one positional argument of each shape."""
    return lambda: tuple(sample(*s, seed=n, dtype=dtype) for n, s in enumerate(shapes, 1))


image = given((2, 3, 6, 7))
"""Makes one batch of images with three channels, of no square size."""


def positive_scale(model: Any) -> None:
    """Make the scale of every batch norm of a model positive."""
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.weight is not None:
            module.weight.data.abs_().add_(0.1)
