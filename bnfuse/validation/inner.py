"""The largest value that the layers inside a model compute.

An output that is zero throughout has no scale of its own to measure rounding by: behind a relu that
lets nothing through, a linear layer without bias gives exact zeros. Where an affine has moved past
that relu, the same zeros are a sum that cancels::

    W relu(s x + t)  =  W s max(x, -t / s) + W t  =  W (s (-t / s)) + W t  ≈  0        s > 0

which is off by a rounding of its terms, whose size is that of the values inside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from bnfuse.validation.inputs import is_dense

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnfuse.validation.inputs import Arguments
    from bnfuse.validation.runners import ModuleRun

MOST = 2.0**20
"""The largest value that counts: a constant to mask with may be the largest finite number."""
# What sums products, and norms: what a fold may go into.
_LAYERS = frozenset(
    {
        *("convolution", "mm", "addmm", "addmv", "mv", "dot", "bmm", "baddbmm", "addbmm"),
        *("native_batch_norm", "cudnn_batch_norm", "_batch_norm_with_update"),
        *("_native_batch_norm_legit", "_native_batch_norm_legit_no_training"),
        *("native_group_norm", "native_layer_norm"),
    }
)


def largest_inner_value(run: ModuleRun, sets: Sequence[Arguments], seed: int) -> float:
    """Return the largest absolute value, up to ``MOST``, that a layer inside a module computes.

    Args:
        run: The module.
        sets: The sets of inputs to run it on.
        seed: The seed of the random numbers that its forward draws.
    """
    seen = _Largest()
    with torch.no_grad(), seen:
        for arguments in sets:
            torch.manual_seed(seed)
            run(arguments)
    return seen.value


def largest_computed(tensor: Tensor) -> float:
    """Return the largest absolute value, up to ``MOST``, in a floating-point tensor; 0 if none.

    >>> largest_computed(torch.tensor([-3.0, float("inf"), float("nan")]))
    3.0
    """
    sizes = tensor.detach().abs()
    return float(torch.where(sizes <= MOST, sizes, 0.0).max()) if sizes.numel() else 0.0


class _Largest(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch leaves it unannotated
    """Notes the largest value up to ``MOST`` that a layer computes while it is entered."""

    supports_higher_order_operators = True  # such as torch.cond, which have no overloads

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]  # likewise
        self.value: float = 0.0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:  # the signature is torch's
        result = func(*args, **(kwargs or {}))
        if getattr(getattr(func, "overloadpacket", None), "__name__", "") in _LAYERS:
            self._note(result[0] if isinstance(result, tuple) else result)
        return result

    def _note(self, result: Tensor) -> None:
        if result.is_floating_point() and is_dense(result) and not result.is_meta:
            self.value = max(self.value, largest_computed(result))
