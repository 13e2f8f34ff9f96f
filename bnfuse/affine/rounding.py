"""Precision at the borders of the algebra: in as float64, out rounded once.

Weights may be folded several times: a batch norm into each branch, then the branches into one. A
tensor that was rounded remembers the float64 value it stands for, and the next fold starts from
that, so that however many folds there are, each weight is rounded once. A large one remembers how
that value is made, and makes it again where it is asked for: values of all layers would take twice
the memory of the model. This lasts as long as the passes run: ``forget`` ends it, since from then
on the tensor may be written.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


ALL = slice(None)
_EXACT = "_exact"
FEW_ELEMENTS = 1 << 17
"""How many elements may stand in float64 beside others without counting as memory."""
_MOST_REMEMBERED = 1 << 15


@dataclass(frozen=True, slots=True)
class Made:
    """A float64 tensor that is made where it is asked for.

    Attributes:
        make: Makes some rows of it, or all.
        is_by_rows: Whether some rows can be made without the others.
    """

    make: Callable[[slice], Tensor]
    is_by_rows: bool = True

    def rows(self, rows: slice) -> Tensor:
        """Return some rows, float64."""
        if self.is_by_rows or rows == ALL:
            return self.make(rows).to(torch.float64)
        return self.make(ALL)[rows].to(torch.float64)

    def __deepcopy__(self, _: object) -> Made:
        """Return the same: whoever copies a tensor shares how it is made."""
        return self


def as_float64(tensor: Tensor, rows: slice = ALL) -> Tensor:
    """Return ``tensor`` as a detached float64 tensor on its own device, or on the CPU for mps.

    Every stored dtype that folds (float16, bfloat16, float32, float64) is exact in float64. A
    tensor that remembers what it was rounded from stands for that.

    Args:
        tensor: The tensor.
        rows: Which rows of it to return.
    """
    exact: Tensor | Made | None = tensor.__dict__.get(_EXACT)
    if isinstance(exact, Made):
        return exact.rows(rows)
    stored = tensor.detach() if exact is None else exact
    if stored.device.type == "mps":  # Apple's GPU has no float64
        stored = stored.cpu()
    return (stored if rows == ALL else stored[rows]).to(torch.float64)


def few_rows(tensor: Tensor, most: int = FEW_ELEMENTS) -> list[slice]:
    """Return slices of a tensor's rows, as many in each as may stand in float64 at a time.

    Args:
        tensor: The tensor.
        most: About how many elements there may be in a slice.
    """
    if tensor.numel() <= most or not tensor.ndim:
        return [ALL]
    count = -(-most * len(tensor) // tensor.numel())
    return [slice(first, first + count) for first in range(0, len(tensor), count)]


def stand_in(tensor: Tensor) -> Tensor:
    """Return what has the shape and the exact value of a tensor, and no memory if that is rounded.

    >>> rounded = round_once(torch.ones(3, dtype=torch.float64), torch.zeros(3))
    >>> stand_in(rounded).is_meta, as_float64(stand_in(rounded))
    (True, tensor([1., 1., 1.], dtype=torch.float64))
    """
    if _EXACT not in tensor.__dict__:
        return tensor
    empty = torch.empty_like(tensor.detach(), device="meta")
    empty.__dict__[_EXACT] = tensor.__dict__[_EXACT]
    return empty


def round_once(exact: Tensor, like: Tensor) -> Tensor | None:
    """Round a float64 tensor to the dtype and device of ``like``.

    The memory format is kept where the shapes agree.

    Returns:
        The rounded tensor, or None where a finite value becomes infinite in that dtype.

    >>> round_once(torch.tensor([70000.0], dtype=torch.float64), torch.zeros(1).half()) is None
    True
    """
    rounded = _empty(exact.shape, like).copy_(exact)
    if not all_finite(rounded):
        return None
    rounded.__dict__[_EXACT] = exact
    return rounded


def all_finite(tensor: Tensor) -> bool:
    """Whether a floating-point tensor holds finite numbers alone.

    One that is not finite makes the sum so, which takes a tenth of the time. The sum of finite
    ones may be too large: then each is looked at.

    >>> all_finite(torch.tensor([1e38, 3e38])), all_finite(torch.tensor([1.0, float("nan")]))
    (True, False)
    """
    return math.isfinite(tensor.sum().item()) or bool(torch.isfinite(tensor).all())


def _norm(tensor: Tensor) -> float:
    return float(torch.linalg.vector_norm(tensor))


def round_weight(exact: Tensor | Made, like: Tensor, again: Made | None = None) -> Tensor | None:
    """Round a float64 weight to the dtype and device of ``like``, if that keeps its precision.

    Rounding to normal numbers changes each weight by at most ``u`` of its size, ``u`` being half an
    ``eps``: 2^-11 in float16. Below the smallest of them, 6e-5 in float16, precision goes bit by
    bit until nothing but 0 is left. So the weight fits where ``|W' - W| <= u |W|`` for the norms of
    the whole: single channels may be so much smaller than the others that they do not count.

    Args:
        exact: The weight; what is made by rows has the shape of ``like``.
        like: What tells the dtype, the device and the memory format.
        again: What the result is to remember where it is large, instead of what it was made of.

    Returns:
        The rounded tensor, or None where it does not fit the dtype.

    >>> round_weight(torch.tensor([1e-7, 2e-7], dtype=torch.float64), torch.zeros(2).half()) is None
    True
    """
    given = exact if isinstance(exact, Made) else Made(exact.__getitem__, is_by_rows=False)
    parts = few_rows(like) if given.is_by_rows else [ALL]
    rounded = None if len(parts) == 1 else _empty(like.shape, like)  # before what is let go again
    error = size = 0.0
    for rows in parts:
        whole = given.rows(rows)
        rounded = _empty(whole.shape, like) if rounded is None else rounded
        part = (rounded if rows == ALL else rounded[rows]).copy_(whole)
        error = math.hypot(error, _norm(part.to(whole.device, torch.float64) - whole))
        if not math.isfinite(error):
            return None  # as what is rounded to no finite number makes it
        size = math.hypot(size, _norm(whole))
    if rounded is None or error > torch.finfo(like.dtype).eps / 2 * size:
        return None
    is_large = rounded.numel() > _MOST_REMEMBERED
    rounded.__dict__[_EXACT] = (again or exact) if is_large else whole
    return rounded


def _empty(shape: torch.Size, like: Tensor) -> Tensor:
    """Return a tensor to be written, of a shape and of the dtype and device of ``like``."""
    if shape == like.shape:
        return torch.empty_like(like, requires_grad=False)  # keeps the memory format
    # contiguous() would keep odd strides of axes of size 1, from which convolutions take theirs
    return torch.empty(shape, dtype=like.dtype, device=like.device)


LARGEST_BOUND = 4096.0
"""The largest bound whose scale half precision can hold with it."""


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
    if like.dtype is torch.float16 and (finite.abs() > LARGEST_BOUND).any():
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
