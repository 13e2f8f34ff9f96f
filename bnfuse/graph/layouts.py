"""A function that stands in an optimized graph where a batch norm gave its result another layout.

It copies nothing that is laid out so already, and vanishes under ``torch.export``.
"""

from __future__ import annotations

import torch
from torch import Tensor

_CHANNELS_LAST = {4: torch.channels_last, 5: torch.channels_last_3d}


def laid_out_by_norm(value: Tensor) -> Tensor:
    """Return a value laid out in memory as a batch norm of it is: contiguous or channels last.

    Args:
        value: Any dtype, shape ``(batch, channels, *spatial)``.

    Source: ``suggest_memory_format`` in ``c10/core/TensorImpl.h``, by which norms and
    concatenations choose; a norm asks first whether the value is channels last as it stands.

    >>> laid_out_by_norm(torch.zeros(2, 3, 4).transpose(1, 2)).is_contiguous()
    True
    """
    form = _CHANNELS_LAST.get(value.ndim)
    if value.is_contiguous() or (form and value.is_contiguous(memory_format=form)):
        return value
    return torch.cat((value,), 1)
