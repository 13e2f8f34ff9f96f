"""Whether a call is one that a device kernel may answer, unseen by whoever watches operators."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.autograd import forward_ad

if TYPE_CHECKING:
    from collections.abc import Iterable

_C = torch._C
_CPU = -1


def is_ordinary(values: Iterable[object]) -> bool:
    """Whether plain dense tensors of one device are given and nothing looks at single operators.

    The device is the CPU or a GPU of CUDA. Those who look are compilers, exporters and tracers,
    autocast, transforms such as ``vmap``, forward-mode differentiation, and dispatch modes such as
    that of fake tensors.

    Args:
        values: What a layer was called with.

    >>> is_ordinary([torch.zeros(2)]), is_ordinary([torch.zeros(2, device="meta")])
    (True, False)
    """
    if torch.compiler.is_compiling() or _C._get_tracing_state() is not None:
        return False
    place = None
    for value in values:
        if type(value) is not Tensor or value.layout is not torch.strided or value.is_neg():
            return False
        at = _place(value)
        if at is None or at != (at if place is None else place):
            return False
        place = at
    is_on_cpu = place == _CPU
    return not (
        torch.is_autocast_enabled("cpu" if is_on_cpu else "cuda")
        or _C._functorch.peek_interpreter_stack() is not None
        or _C._len_torch_dispatch_stack()
        or forward_ad._current_level >= 0
        or not (_C._get_mkldnn_enabled() if is_on_cpu else _is_cudnn_free())
    )


def _place(value: Tensor) -> int | None:
    """Return the number of the GPU that a tensor is on, -1 for the CPU, None for elsewhere."""
    if value.is_cpu:
        return _CPU
    return value.get_device() if value.is_cuda else None


def _is_cudnn_free() -> bool:
    """Whether cuDNN may be called, by any of its algorithms."""
    return _C._get_cudnn_enabled() and not _C._get_deterministic_algorithms()


def needs_gradient(values: Iterable[Tensor | None]) -> bool:
    """Whether a gradient may be asked for with respect to any of some tensors.

    >>> needs_gradient([None, torch.zeros(2, requires_grad=True)])
    True
    """
    return torch.is_grad_enabled() and any(v is not None and v.requires_grad for v in values)
