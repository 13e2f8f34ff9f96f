"""Operations on the elements of several values."""

from __future__ import annotations

from functools import reduce
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.importing.site import Operand, Site


def _binary(function: Callable[..., Operand]) -> Callable[[Site], Operand]:
    def convert(site: Site) -> Operand:
        a, b = site.operand(0), site.operand(1)
        if not isinstance(a, Tensor) and isinstance(a, int | float):
            a = site.value(0)  # a function takes a number on the right alone
        return site.call(function, a, b)

    return convert


def _divided(site: Site) -> Operand:
    """Div: of whole numbers the quotient is cut off."""
    dtype = site.dtype(0) or site.dtype(1)
    if dtype is None:
        raise site.error("the file does not tell the type of its inputs")
    mode = None if dtype.is_floating_point else "trunc"
    a, b = site.value(0), site.operand(1)
    if mode is None:
        return site.call(torch.div, a, b)
    return site.call(torch.div, a, b, rounding_mode=mode)


def _power(site: Site) -> Operand:
    """Pow: the result has the type of the base."""
    base, exponent = site.dtype(0), site.dtype(1)
    found = site.call(torch.pow, site.value(0), site.operand(1))
    if base is None or exponent is None:
        raise site.error("the file does not tell the type of its inputs")
    is_widened = base is not exponent and torch.promote_types(base, exponent) is not base
    return site.method("to", found, base) if is_widened else found


def _remainder(site: Site) -> Operand:
    """Mod: the sign of the divisor, or with ``fmod`` of the dividend."""
    function = torch.fmod if site.attribute("fmod", 0) else torch.remainder
    return site.call(function, site.value(0), site.operand(1))


def _of_all(function: Callable[..., Operand]) -> Callable[[Site], Operand]:
    def convert(site: Site) -> Operand:
        values = [site.value(index) for index in range(len(site.inputs))]
        return reduce(lambda a, b: site.call(function, a, b), values)

    return convert


def _mean(site: Site) -> Operand:
    return site.call(torch.div, _of_all(torch.add)(site), len(site.inputs))


def _where(site: Site) -> Operand:
    return site.call(torch.where, *(site.value(index) for index in range(3)))


_BINARY: dict[str, Callable[..., Operand]] = {
    "Add": torch.add, "Sub": torch.sub, "Mul": torch.mul, "Equal": torch.eq,
    "Greater": torch.gt, "Less": torch.lt, "GreaterOrEqual": torch.ge,
    "LessOrEqual": torch.le,
}  # fmt: skip

OPERATORS: dict[str, Callable[[Site], Operand]] = {
    **{name: _binary(function) for name, function in _BINARY.items()},
    "And": _of_all(torch.logical_and),
    "Or": _of_all(torch.logical_or),
    "Xor": _of_all(torch.logical_xor),
    "Div": _divided,
    "Pow": _power,
    "Mod": _remainder,
    "Max": _of_all(torch.maximum),
    "Min": _of_all(torch.minimum),
    "Sum": _of_all(torch.add),
    "Mean": _mean,
    "Where": _where,
}
"""The operations on several values."""
