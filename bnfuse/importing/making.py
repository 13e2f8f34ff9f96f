"""Operations that make tensors from attributes and sizes."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, fx

from bnfuse.importing.sizes import Sizes
from bnfuse.importing.tensors import tensor_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from bnfuse.importing.site import Operand, Site

_MANY = 2**28  # elements; no network has a constant of that size that it makes itself
_NUMBERS = {
    "value_float": torch.float32,
    "value_floats": torch.float32,
    "value_int": torch.int64,
    "value_ints": torch.int64,
}


def _constant(site: Site) -> Operand:
    """Constant: a tensor, or numbers."""
    if "value" in site.attributes:
        return tensor_of(site.attributes["value"])
    for name, dtype in _NUMBERS.items():
        if name in site.attributes:
            return torch.tensor(site.attributes[name], dtype=dtype)
    raise site.error("its value is a sparse tensor or text")


def _filled(site: Site) -> Operand:
    """ConstantOfShape: zeros if no value is named."""
    sizes = site.sizes(0)
    numbers = [size for size in sizes if isinstance(size, int)]
    if math.prod(numbers) > _MANY:
        raise site.error(f"it makes a tensor of {math.prod(numbers)} elements")
    proto = site.attribute("value", None)
    value = torch.zeros(1) if proto is None else tensor_of(proto)
    return site.call(torch.full, tuple(sizes), value.item(), dtype=value.dtype)


def _range(site: Site) -> Operand:
    """Range: numbers, or up to a size."""
    bounds: list[float | int | fx.Node] = []
    for index in range(3):
        given = site.inputs[index]
        if isinstance(given, Tensor):
            bounds.append(given.item())
        elif isinstance(given, Sizes):
            bounds.append(given.entries[0])
        else:
            raise site.error("where it ends depends on data")
    dtype = site.dtype(0)
    return site.call(torch.arange, *bounds, dtype=dtype)


OPERATORS: dict[str, Callable[[Site], Operand]] = {
    "Constant": _constant,
    "ConstantOfShape": _filled,
    "Range": _range,
}
"""The operations that make tensors."""
