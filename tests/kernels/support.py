"""Layers, their epilogues, and what they compute one after another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnfuse.kernels import Activation, Epilogue, FusedLayer, fuse
from bnfuse.kernels.channels_last import laid_out
from bnfuse.kernels.installed import installed

LIBRARY = installed().library
needs_library = pytest.mark.skipif(LIBRARY is None, reason="no build of oneDNN is installed")

ACTIVATIONS = (
    Activation("relu"),
    Activation("relu6"),
    Activation("hardtanh", (-0.5, 0.75)),
    Activation("leaky_relu", (0.1,)),
    Activation("sigmoid"),
    Activation("tanh"),
    Activation("silu"),
    Activation("hardswish"),
    Activation("hardsigmoid"),
    Activation("gelu", (), "none"),
    Activation("gelu", (), "tanh"),
)


def drawn(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float32) -> Tensor:
    """Return normal random numbers."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator).to(dtype)


def layer(kind: type[nn.Module], *args: Any, **options: Any) -> Any:
    """Return a layer with random weights that need no gradient."""
    torch.manual_seed(0)
    made: Any = kind(*args, **options).eval().requires_grad_(False)
    return made


def conv(**options: Any) -> Any:
    """Return a convolution of 8 channels, 3 x 3."""
    return layer(nn.Conv2d, 8, 8, 3, **{"padding": 1, **options})


def conv1d(**options: Any) -> Any:
    """Return a convolution of signals of 8 channels, with 3 taps."""
    return layer(nn.Conv1d, 8, 8, 3, **{"padding": 1, **options})


@dataclass(frozen=True)
class Case:
    """Convolutions of one rank, of 8 channels, with what they are called with.

    Attributes:
        axes: How many axes a kernel has.
        x: An input, large enough for oneDNN; the layers keep its shape.
        other: A second operand.
    """

    axes: int
    x: Tensor
    other: Tensor

    def conv(self, **options: Any) -> Any:
        """Return a layer."""
        return conv1d(**options) if self.axes == 1 else conv(**options)

    def plain(self, made: Any, x: Tensor | None = None, other: Tensor | None = None) -> Tensor:
        """Return what a fused layer with a sum and a relu computes, by the operators themselves."""
        function = torch.conv1d if self.axes == 1 else torch.conv2d
        y = function(self.x if x is None else x, made.weight, made.bias, 1, 1)
        return (y + (self.other if other is None else other)).relu()

    def last(self, x: Tensor) -> Tensor:
        """Return a value laid out channels last."""
        return laid_out(x, torch.channels_last)

    def is_last(self, x: Tensor) -> bool:
        """Whether a value is laid out channels last."""
        return (x.transpose(1, 2) if self.axes == 1 else x.permute(0, 2, 3, 1)).is_contiguous()


IMAGES = Case(2, drawn(1, 8, 20, 20), drawn(1, 8, 20, 20, seed=1))
SIGNALS = Case(1, drawn(1, 8, 400), drawn(1, 8, 400, seed=1))


def fused(plain: nn.Module, binary: str = "", activation: Activation | None = None) -> Any:
    """Return the fused layer of a layer."""
    made: FusedLayer = fuse(plain, Epilogue(binary, activation))
    return made


def error(got: Tensor, wanted: Tensor) -> float:
    """Return how far two tensors are apart, relative to the largest element."""
    assert got.shape == wanted.shape
    assert got.dtype == wanted.dtype
    got, wanted = got.detach(), wanted.detach()
    scale = float(wanted.double().abs().max()) or 1.0
    return float((got.double() - wanted.double()).abs().max()) / scale


def kernels_of(made: FusedLayer) -> dict[Any, Any]:
    """Return what a layer has chosen for each shape; nothing before its first ordinary call."""
    packed = made._cache.packed
    return {} if packed is None else packed.kernels


def has_packed(made: FusedLayer) -> bool:
    """Whether a layer holds a packed weight."""
    packed = made._cache.packed
    return packed is not None and (packed.blocked is not None or bool(packed.formats))
