"""What runs a fused convolution on a GPU for inputs of one shape: cuDNN, where it has one kernel.

A convolution of PyTorch on CUDA adds its bias in a kernel of its own, the sum and the activation
are two more, and each reads and writes the whole result. cuDNN's fused convolutions write it once::

    conv, + b, + r, relu      4 kernels
    conv + b + r, relu        1 kernel

There are two, with and without a sum, both with a relu. They are not asked for where PyTorch's own
operators were faster on an H100 (``benchmarks/gpu.py``): depthwise, by 2 to 16 times, and in half
precision for images and weights that are both laid out channel by channel.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.kernels import cudnn_calls as cudnn
from bnfuse.kernels.runners import output_shape

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.kernels.epilogue import Epilogue
    from bnfuse.kernels.onednn_calls import Geometry
    from bnfuse.kernels.packed import Kernel, Packed

_LEAST_WIDTH = 8
"""Channels of a group, below which cuDNN's fused convolutions are slower."""
_HALF = (torch.float16, torch.bfloat16)
_MOST_ELEMENTS = 2**31 - 1
"""PyTorch's own convolution splits what is larger; the fused ones do not."""


def convolution(
    packed: Packed, x: Tensor, bias: Tensor | None, geometry: Geometry, epilogue: Epilogue
) -> Kernel | None:
    """Return what runs a 2-d convolution by cuDNN, for inputs of the shape of ``x``.

    Args:
        packed: The weight.
        x: An input.
        bias: The bias.
        geometry: That of the convolution.
        epilogue: What it is to do to its result.

    Returns:
        None where no kernel does all of it, or none as fast: for another epilogue, narrow groups,
        a layout or a dtype that it is slow or wrong in, sizes beyond 32 bits, or if cuDNN has no
        engine for it.
    """
    shape = output_shape(x.shape, packed.weight.shape, geometry)
    if shape is None or not _is_offered(epilogue, x) or not _is_faster(packed.weight, geometry, x):
        return None
    if max(x.numel(), shape.numel()) > _MOST_ELEMENTS:
        return None
    if x.dtype not in cudnn.cudnn(x.get_device()).dtypes:
        return None
    weight = packed.weight.detach()
    run = (
        _summed(weight, geometry, epilogue, shape) if epilogue.binary else _alone(weight, geometry)
    )
    others = (x.new_zeros(shape),) if epilogue.binary else ()
    return run if _has_engine(run, x, bias, others) else None


def _is_offered(epilogue: Epilogue, x: Tensor) -> bool:
    """Whether cuDNN's fused convolutions end as asked."""
    is_relu = epilogue.activation is not None and epilogue.activation.name == "relu"
    return is_relu and epilogue.binary in ("", "add", "iadd") and x.ndim == 4


def _is_faster(weight: Tensor, geometry: Geometry, x: Tensor) -> bool:
    """Whether they were faster than operators one by one, as far as that was measured."""
    if x.dtype not in _HALF:
        return geometry.groups == 1
    is_wide = geometry.groups == 1 or weight.shape[1] >= _LEAST_WIDTH
    return is_wide and not (x.is_contiguous() and weight.is_contiguous())


def _alone(weight: Tensor, geometry: Geometry) -> Kernel:
    call, window = cudnn.relu, geometry
    return lambda x, bias: call(x, weight, bias, window)


def _summed(weight: Tensor, geometry: Geometry, epilogue: Epilogue, shape: torch.Size) -> Kernel:
    call = cudnn.add_relu

    def run(x: Tensor, bias: Tensor | None, other: Tensor) -> Tensor:
        if other.shape == shape and other.dtype is x.dtype:
            return call(x, weight, bias, geometry, other)
        padding, stride, dilation, groups = geometry
        y = F.conv2d(x, weight, bias, stride, padding, dilation, groups)
        return epilogue.written(y, (other,))

    return run


def _has_engine(run: Kernel, x: Tensor, bias: Tensor | None, others: tuple[Tensor, ...]) -> bool:
    """Whether a kernel runs; cuDNN says only then that it has none for a shape."""
    try:
        run(x, bias, *others)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError:
        return False
    return True
