"""Channels last for images, volumes and signals, for which PyTorch has no such memory format.

A signal of ``l`` samples is an image of one row to oneDNN, which has kernels for depthwise layers
for images alone; what it reads and writes is laid out by pixel, that is here by sample::

    (n, c, l), strides (c l, 1, c)   the memory of   (n, c, 1, l) channels last

PyTorch's own ``conv1d`` returns contiguous tensors instead, and copies to and fro inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

FORMATS = {3: torch.channels_last, 4: torch.channels_last, 5: torch.channels_last_3d}
"""The format of a batch, by the number of its axes; a signal's is that of an image of one row."""


def strides_of(shape: Sequence[int], memory_format: torch.memory_format) -> tuple[int, ...]:
    """Return the strides of a dense tensor.

    Those of a signal of one channel or one sample, whose memory is the same in both formats, are
    those that PyTorch's own operators give it.

    >>> strides_of((1, 3, 2, 2), torch.channels_last), strides_of((2, 3, 4), torch.channels_last)
    ((12, 1, 6, 3), (12, 1, 3))
    """
    if len(shape) == 3 and memory_format is torch.channels_last:
        _, channels, length = shape
        if min(channels, length) > 1:
            return (channels * length, 1, channels)
        memory_format = torch.contiguous_format
    return torch.empty(tuple(shape), device="meta", memory_format=memory_format).stride()


def laid_out(x: Tensor, memory_format: torch.memory_format) -> Tensor:
    """Return a tensor in a format: itself if it is in it, else a copy.

    >>> laid_out(torch.zeros(2, 3, 4), torch.channels_last).stride()
    (12, 1, 3)
    """
    if x.ndim == 3 and memory_format is torch.channels_last:
        return x.transpose(1, 2).contiguous().transpose(1, 2)
    return x.contiguous(memory_format=memory_format)


def as_image(shape: Sequence[int]) -> tuple[int, ...]:
    """Return the shape of a signal, or of its weight, as one of images of one row; others as is.

    >>> as_image((8, 16, 100)), as_image((8, 16, 10, 10))
    ((8, 16, 1, 100), (8, 16, 10, 10))
    """
    return (*shape[:2], 1, *shape[2:]) if len(shape) == 3 else tuple(shape)
