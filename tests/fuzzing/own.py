"""Layers as others write them: subclasses of PyTorch's whose forward calls the function."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use


class Linear(nn.Linear):
    """A linear layer."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        return F.linear(input, self.weight, self.bias)


class Conv2d(nn.Conv2d):
    """A convolution that pads with zeros, whatever its mode is."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        return F.conv2d(input, self.weight, self.bias, **_window(self))


class Conv3d(nn.Conv3d):
    """A convolution that halves its weight first."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - as PyTorch names it
        return F.conv3d(input, self.weight / 2, self.bias, **_window(self))


def _window(layer: Any) -> dict[str, Any]:
    return {name: getattr(layer, name) for name in ("stride", "padding", "dilation", "groups")}
