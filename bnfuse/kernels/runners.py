"""What runs a fused layer for inputs of one shape: a function of input, bias and second value.

Each maker looks at the shape once, so that a call has nothing left to look at. It returns None for
what only PyTorch's own operators may answer: shapes that they refuse, and dtypes that oneDNN lacks.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.kernels import onednn_calls as onednn
from bnfuse.kernels.channels_last import as_image

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.kernels.epilogue import Epilogue
    from bnfuse.kernels.onednn_calls import Geometry, Post
    from bnfuse.kernels.packed import Kernel, Packed

_NONE: Post = ("none", [], "")


def output_shape(x: torch.Size, weight: torch.Size, geometry: Geometry) -> torch.Size | None:
    """Return the shape of a convolution's result, or None where it takes no such input.

    >>> output_shape(torch.Size([1, 3, 9, 9]), torch.Size([8, 3, 3, 3]),
    ...              onednn.Geometry((1, 1), (2, 2), (1, 1), 1))
    torch.Size([1, 8, 5, 5])
    """
    if len(x) != len(weight) or 0 in x or not geometry.is_usual:
        return None
    if x[1] != weight[1] * geometry.groups or weight[0] % geometry.groups:
        return None
    axes = list(zip(x[2:], weight[2:], *geometry[:3], strict=True))
    sizes = [(n + 2 * p - d * (k - 1) - 1) // s + 1 for n, k, p, s, d in axes]
    if min(sizes) < 1 or not all(map(_meets_input, sizes, axes)):
        return None
    return torch.Size([x[0], weight[0], *sizes])


def _meets_input(size: int, axis: tuple[int, ...]) -> bool:
    """Whether any tap lies on the input, not on its padding; else oneDNN 3.x may crash.

    Args:
        size: The length of the result.
        axis: The lengths of the input and the kernel, the padding, the stride, the dilation.
    """
    n, k, p, s, d = axis
    return any(0 <= at * s - p + tap * d < n for at in range(size) for tap in range(k))


def convolution(packed: Packed, size: torch.Size, geometry: Geometry, epilogue: Epilogue) -> Kernel:
    """Return what runs a convolution by PyTorch's operators for oneDNN, for one shape."""
    shape, geometry = output_shape(size, packed.weight.shape, geometry), geometry.of_images()
    if packed.blocked is None:
        plain = packed.weight.detach().view(as_image(packed.weight.shape))
        packed.blocked = onednn.packed_convolution(plain, geometry, as_image(size))
    weight, call = packed.blocked, onednn.OPERATORS._convolution_pointwise.default
    if len(size) == 3:
        call = onednn.convolution_of_signals
    activation = epilogue.activation
    post: Post = _NONE if activation is None else activation.onednn
    if not epilogue.binary:
        return lambda x, bias: call(x, weight, bias, *geometry, *post)
    binary = epilogue.binary.removeprefix("i")
    is_one_call = geometry.groups == 1 and (activation is None or activation.name == "relu")
    last = "relu" if activation is not None else None

    def run(x: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
        if is_one_call and other.shape == shape and other.dtype is x.dtype:
            return onednn.convolution_sum(x, weight, bias, geometry, other, binary, last)
        return epilogue.written(call(x, weight, bias, *geometry, *_NONE), (other,))

    return run


def transposed(
    packed: Packed,
    geometry: Geometry,
    output_padding: tuple[int, ...],
    epilogue: Epilogue,
) -> Kernel:
    """Return what runs a transposed convolution by oneDNN, with its plain weight."""
    weight, activation = packed.weight.detach(), epilogue.activation
    is_one_call = not epilogue.binary
    post: Post = activation.onednn if activation is not None and is_one_call else _NONE

    def run(x: Tensor, bias: Tensor | None, *others: Tensor) -> Tensor:
        y = onednn.transposed(x, weight, bias, geometry, output_padding, post)
        return y if is_one_call else epilogue.written(y, others)

    return run


def linear(packed: Packed, size: torch.Size, epilogue: Epilogue) -> Kernel:
    """Return what runs a linear layer by PyTorch's operators for oneDNN, for one shape."""
    if packed.blocked is None:
        packed.blocked = onednn.packed_linear(packed.weight.detach(), prod(size[:-1]))
    weight, call = packed.blocked, onednn.OPERATORS._linear_pointwise.default
    activation = epilogue.activation
    post: Post = _NONE if activation is None else activation.onednn
    if not epilogue.binary:
        return lambda x, bias: call(x, weight, bias, *post)
    shape = torch.Size([*size[:-1], packed.weight.shape[0]])
    binary = epilogue.binary.removeprefix("i")

    def run(x: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
        if other.shape != shape or other.dtype is not x.dtype:
            return epilogue.written(call(x, weight, bias, *_NONE), (other,))
        y = onednn.linear_sum(x, weight, bias, other, binary)
        return y if activation is None else activation.written(y)

    return run


def plain_pointwise(packed: Packed, epilogue: Epilogue) -> Kernel:
    """Return what runs a 1 x 1 convolution of single pixels: a linear layer, by plain operators."""
    weight = packed.weight.detach().flatten(1)
    ones = (1,) * (packed.weight.ndim - 2)

    def run(x: Tensor, bias: Tensor | None, *others: Tensor) -> Tensor:
        y = F.linear(x.flatten(1), weight, bias)
        return epilogue.written(y.view(*y.shape, *ones), others)

    return run
