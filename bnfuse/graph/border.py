"""What a shift before a zero-padded convolution adds to its output: a map that depends on the size.

The padded zeros are not shifted, so that outputs near the border get less of the shift than those
inside. What is added is the same at every call of one size::

    conv(s x + t) = conv_{W s}(x) + map      map[o] = sum_k K[o, k] · (1 where k reads no zero)

with ``K[o, k] = sum_j W[o, j, k] t_j``: the convolution of ones, padded like the input, with ``K``.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn
from torch.nn import functional as F  # noqa: N812 - the name PyTorch's own documents use

from bnfuse.affine import as_parameter

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import Tensor

_CONVOLUTIONS = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}
_MOST_SIZES = 8


class BorderMap(nn.Module):
    """Returns the map for the size of a convolution's input; it is kept for the last few sizes.

    Args:
        kernel: ``K``, shape ``(out, 1, *kernel)``, or ``(1, out, *kernel)`` of a transposed one.
        options: Stride, padding and dilation of the convolution, by name.
        is_transposed: Whether it is a transposed convolution.
    """

    def __init__(
        self, kernel: Tensor, options: Mapping[str, Any], *, is_transposed: bool = False
    ) -> None:
        super().__init__()
        self.kernel = as_parameter(kernel)
        self.options = dict(options)
        self.is_transposed = is_transposed
        self._kept: dict[tuple[Any, ...], tuple[Tensor, Tensor]] = {}  # with the kernel, by its id

    def forward(self, x: Tensor) -> Tensor:
        """Return the map ``(1, out, *spatial)`` for an input ``(batch, in, *spatial)``."""
        if torch.compiler.is_compiling() or torch._C._get_tracing_state() is not None:
            return self._made(x, self.kernel)
        version = 0 if self.kernel.is_inference() else self.kernel._version
        dtype = self._dtype()
        order = _order_of(x)
        made_of = self.kernel.dtype, self.kernel.device, id(self.kernel), version
        key = (x.shape[2:], dtype, order, *made_of)
        _, kept = self._kept.get(key, (None, None))
        if kept is None:
            kept = self._made(x, self.kernel.detach().to(torch.float64))
            kept = kept.to(dtype, memory_format=order)
            for oldest in list(self._kept)[: 1 - _MOST_SIZES]:
                self._kept.pop(oldest, None)
            self._kept[key] = (self.kernel, kept)
        return kept

    def _dtype(self) -> torch.dtype:
        """Return the dtype of the convolution's result, which autocast may change."""
        kind = self.kernel.device.type
        if self.kernel.dtype is torch.float64 or not torch.is_autocast_enabled(kind):
            return self.kernel.dtype
        return torch.get_autocast_dtype(kind)

    def _made(self, x: Tensor, kernel: Tensor) -> Tensor:
        ones = torch.ones((1, 1, *x.shape[2:]), dtype=kernel.dtype, device=kernel.device)
        table = _TRANSPOSED if self.is_transposed else _CONVOLUTIONS
        function: Any = table[kernel.ndim - 2]
        result: Tensor = function(ones, kernel, **self.options)
        return result

    def __getstate__(self) -> dict[str, Any]:
        """Leave the maps behind: a copy makes its own."""
        return {**self.__dict__, "_kept": {}}


def _order_of(x: Tensor) -> torch.memory_format:
    """Return how the result of a convolution of a value is laid out, and so its map."""
    is_last = x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last)
    return torch.channels_last if is_last else torch.contiguous_format
