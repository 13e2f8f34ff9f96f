"""One convolution with bias, optional second summand and relu, computed in several ways."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

    from benchmarks.gpu_plan import ConvShape

    Epilogue = Callable[[Tensor, Tensor, Tensor | None], Tensor]


@dataclass(frozen=True)
class Operands:
    """What goes into a convolution.

    Attributes:
        x: Input, ``(n, c, h, w)``.
        weight: Weight, ``(o, c, k, k)``, of a size that keeps the output near that of the input.
        bias: Bias, ``(o,)``.
        z: What is added before the relu, ``(n, o, h', w')``, or None.
        stride: The stride.
        padding: The padding.
        groups: Into how many parts the channels fall.
    """

    x: Tensor
    weight: Tensor
    bias: Tensor
    z: Tensor | None
    stride: int
    padding: int
    groups: int = 1

    @property
    def window(self) -> tuple[list[int], list[int], list[int], int]:
        """Stride, padding, dilation, groups, in the order of cuDNN's fused operations."""
        return [self.stride] * 2, [self.padding] * 2, [1, 1], self.groups


def operands(
    shape: ConvShape, dtype: str, batch: int, device: str, layout: Any = torch.channels_last
) -> Operands:
    """Return operands drawn from normal distributions, on a device, in one layout."""
    generator = torch.Generator(device).manual_seed(0)

    def drawn(*size: int) -> Tensor:
        made = torch.randn(*size, generator=generator, device=device).to(getattr(torch, dtype))
        return made.contiguous(memory_format=layout) if len(size) == 4 else made

    end = (shape.size + 2 * shape.padding - shape.kernel) // shape.stride + 1
    x = drawn(batch, shape.channels, shape.size, shape.size)
    each = shape.channels // shape.groups
    weight = drawn(shape.out, each, shape.kernel, shape.kernel)
    weight /= (each * shape.kernel**2) ** 0.5
    z = drawn(batch, shape.out, end, end) if shape.residual else None
    return Operands(x, weight, drawn(shape.out), z, shape.stride, shape.padding, shape.groups)


def exact(o: Operands, images: int) -> Tensor:
    """Return the first images of the result in float64."""
    x, weight, bias = (t.double() for t in (o.x[:images], o.weight, o.bias))
    y = F.conv2d(x, weight, bias, o.stride, o.padding, 1, o.groups)
    return F.relu(y if o.z is None else y + o.z[:images].double())


def separate(o: Operands) -> Tensor:
    """Convolution with bias, sum and relu in place, as eager PyTorch runs a folded model."""
    y = F.conv2d(o.x, o.weight, o.bias, o.stride, o.padding, 1, o.groups)
    return (y if o.z is None else y.add_(o.z)).relu_()


def fused(o: Operands) -> Tensor:
    """Return what cuDNN's fused operations compute."""
    if o.z is None:
        return torch.cudnn_convolution_relu(o.x, o.weight, o.bias, *o.window)
    return torch.cudnn_convolution_add_relu(o.x, o.weight, o.z, 1.0, o.bias, *o.window)


def as_matrix(o: Operands) -> Tensor:
    """Pointwise convolution with bias by a matrix product, which adds the bias itself."""
    y = torch.addmm(o.bias, _matrix(o.x), o.weight.flatten(1).t())
    y = y if o.z is None else y.add_(_matrix(o.z))
    return _image(y.relu_(), o.x)


def epilogue(y: Tensor, bias: Tensor, z: Tensor | None) -> Tensor:
    """Return ``relu(y + bias + z)`` of a matrix ``(pixels, channels)``."""
    return F.relu(y + bias if z is None else y + bias + z)


@cache
def one_kernel() -> Epilogue:
    """Return the epilogue as one Triton kernel made by Inductor."""
    return torch.compile(epilogue, dynamic=True, fullgraph=True)


def pointwise(o: Operands, after: Epilogue) -> Tensor:
    """Return a convolution without bias, then one kernel for the rest.

    The result is handed over as the matrix that it is in channels_last, so that one compiled
    kernel serves all shapes of a dtype.
    """
    y = F.conv2d(o.x, o.weight, None, o.stride, o.padding, 1, o.groups)
    return _image(after(_matrix(y), o.bias, None if o.z is None else _matrix(o.z)), y)


def _matrix(y: Tensor) -> Tensor:
    return y.permute(0, 2, 3, 1).reshape(-1, y.shape[1])


def _image(matrix: Tensor, like: Tensor) -> Tensor:
    n, _, height, width = like.shape
    return matrix.view(n, height, width, -1).permute(0, 3, 1, 2)
