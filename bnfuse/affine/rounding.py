"""Precision at the borders of the algebra: in as float64, out rounded once.

Weights may be folded several times: a batch norm into each branch, then the branches into one. A
tensor that was rounded remembers the float64 value it stands for, and the next fold starts from
that, so that however many folds there are, each weight is rounded once. The memory lasts as long as
the passes run: ``forget`` ends it, since from then on the tensor may be written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from torch import Tensor


_EXACT = "_exact"


def as_float64(tensor: Tensor) -> Tensor:
    """Return ``tensor`` as a detached float64 tensor on its own device, or on the CPU for mps.

    Every stored dtype that folds (float16, bfloat16, float32, float64) is exact in float64. A
    tensor that remembers what it was rounded from stands for that.
    """
    exact: Tensor | None = tensor.__dict__.get(_EXACT)
    if exact is not None:
        return exact.to(torch.float64)
    detached = tensor.detach()
    if detached.device.type == "mps":  # Apple's GPU has no float64
        detached = detached.cpu()
    return detached.to(torch.float64)


def round_once(exact: Tensor, like: Tensor) -> Tensor | None:
    """Round a float64 tensor to the dtype and device of ``like``.

    The memory format is kept where the shapes agree.

    Returns:
        The rounded tensor, or None where a finite value becomes infinite in that dtype.

    >>> round_once(torch.tensor([70000.0], dtype=torch.float64), torch.zeros(1).half()) is None
    True
    """
    rounded = exact.to(device=like.device, dtype=like.dtype)
    if not torch.isfinite(rounded).all():
        return None
    if rounded.shape != like.shape:
        # contiguous() would keep odd strides of axes of size 1, from which convolutions take theirs
        plain = torch.empty_like(rounded, memory_format=torch.contiguous_format)
        rounded = plain.copy_(rounded)
    else:
        rounded = torch.empty_like(like).copy_(rounded)  # empty_like keeps the memory format
    rounded.__dict__[_EXACT] = exact
    return rounded


def round_weight(exact: Tensor, like: Tensor) -> Tensor | None:
    """Round a float64 weight to the dtype and device of ``like``, if that keeps its precision.

    Rounding to normal numbers changes each weight by at most ``u`` of its size, ``u`` being half an
    ``eps``: 2^-11 in float16. Below the smallest of them, 6e-5 in float16, precision goes bit by
    bit until nothing but 0 is left. So the weight fits where ``|W' - W| <= u |W|`` for the norms of
    the whole: single channels may be so much smaller than the others that they do not count.

    Returns:
        The rounded tensor, or None where it does not fit the dtype.

    >>> round_weight(torch.tensor([1e-7, 2e-7], dtype=torch.float64), torch.zeros(2).half()) is None
    True
    """
    rounded = round_once(exact, like)
    if rounded is None:
        return None
    unit = torch.finfo(like.dtype).eps / 2
    error = rounded.detach().to(exact.device, torch.float64) - exact
    return None if error.norm() > unit * exact.norm() else rounded


_LARGEST_BOUND = 4096.0


def round_bounds(exact: Tensor, like: Tensor) -> Tensor | None:
    """Round the bounds of a clamp, which may be infinite, to the dtype and device of ``like``.

    In float16 a large bound ``b = t / s`` comes with weights ``W s`` below the normal numbers, each
    off by up to 2^-25, so by ``2^-25 b`` in the product: more than 2^-13 of an output are not given
    up.

    Returns:
        The rounded tensor, or None where a finite bound becomes infinite, or too large for that.

    >>> round_bounds(torch.tensor([1.0, float("inf")], dtype=torch.float64), torch.zeros(1))
    tensor([1., inf])
    """
    finite = exact[torch.isfinite(exact)]
    if like.dtype is torch.float16 and (finite.abs() > _LARGEST_BOUND).any():
        return None
    rounded = exact.to(device=like.device, dtype=like.dtype)
    if not torch.equal(rounded.isinf().to(exact.device), exact.isinf()):
        return None
    rounded = torch.empty_like(rounded, memory_format=torch.contiguous_format).copy_(rounded)
    rounded.__dict__[_EXACT] = exact
    return rounded


def round_all(model: nn.Module, dtype: torch.dtype) -> None:
    """Round every floating-point tensor of a model, in place; each remembers what it was.

    So what is folded afterwards is folded from the values that the model came with.
    """
    rounded: dict[int, Tensor] = {}
    for module in model.modules():
        for table in (module._parameters, module._buffers):
            for name, tensor in table.items():
                if tensor is None or not tensor.is_floating_point():
                    continue
                if id(tensor) not in rounded:
                    made = tensor.detach().to(dtype)
                    if made.dtype is not tensor.dtype:
                        made.__dict__[_EXACT] = tensor.detach()
                    is_parameter = isinstance(tensor, nn.Parameter)
                    rounded[id(tensor)] = as_parameter(made) if is_parameter else made
                table[name] = rounded[id(tensor)]  # type: ignore[assignment]  # of its own kind


def as_parameter(tensor: Tensor) -> nn.Parameter:
    """Return a tensor as a parameter that needs no gradient; what it remembers comes along."""
    parameter = nn.Parameter(tensor, requires_grad=False)
    if _EXACT in tensor.__dict__:
        parameter.__dict__[_EXACT] = tensor.__dict__[_EXACT]
    return parameter


def is_rounded(tensor: Tensor) -> bool:
    """Whether a tensor remembers what it was rounded from."""
    return _EXACT in tensor.__dict__


def forget(tensor: Tensor) -> None:
    """Let a tensor stand for what is stored in it alone."""
    tensor.__dict__.pop(_EXACT, None)
