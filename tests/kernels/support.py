"""Layers, their epilogues, and what they compute one after another."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from bnfuse.kernels import Activation, Epilogue, FusedLayer, fuse
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
