"""Arithmetic on sizes: what a file computes from the shapes of its values.

A file says "as many as the input has" by nodes that read a shape, pick entries and put them
together. Entries that the file fixes are numbers here, the others nodes, and each operation on them
is done entry by entry, so that a reshape is given numbers wherever there are any.
"""

from __future__ import annotations

import operator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, fx

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from bnfuse.importing.site import Site, Value

Size = int | fx.Node
_FEW = 1024


@dataclass(frozen=True, slots=True)
class Sizes:
    """A vector of sizes, or a single one.

    Attributes:
        entries: Numbers, and nodes that compute one.
        is_scalar: Whether it stands for a tensor without axes.
    """

    entries: tuple[Size, ...]
    is_scalar: bool = False


def settled(entries: Sequence[Size], *, is_scalar: bool = False) -> Tensor | Sizes:
    """Return sizes as a constant where all are numbers."""
    numbers = [entry for entry in entries if isinstance(entry, int)]
    if len(numbers) < len(entries):
        return Sizes(tuple(entries), is_scalar)
    return torch.tensor(numbers[0] if is_scalar else numbers, dtype=torch.int64)


def as_sizes(value: Value | None) -> Sizes | None:
    """Return a value as sizes if it is some, or a small constant of whole numbers."""
    if isinstance(value, Sizes):
        return value
    is_fit = isinstance(value, Tensor) and value.ndim <= 1 and value.numel() <= _FEW
    if not is_fit or not isinstance(value, Tensor) or value.is_floating_point():
        return None
    return Sizes(tuple(int(entry) for entry in value.reshape(-1)), value.ndim == 0)


def shape(site: Site) -> Value:
    """Shape: the sizes of the axes from ``start`` to ``end``."""
    given = site.value(0)
    if isinstance(given, Tensor):
        entries: list[Size] = list(given.shape)
    else:
        entries = [site.size(0, axis) for axis in range(site.rank(0))]
    return settled(entries[slice(site.attribute("start", 0), site.attribute("end", None))])


def size(site: Site) -> Value:
    """Size: how many elements there are."""
    whole: Size = 1
    for axis in range(site.rank(0)):
        whole = _combined(site, operator.mul, whole, site.size(0, axis))
    return settled([whole], is_scalar=True)


def _combined(site: Site, function: Callable[..., Any], a: Size, b: Size) -> Size:
    found: Size = site.builder.call(function, a, b)
    return found


def _binary(function: Callable[..., Any]) -> Callable[[Site, list[Sizes]], Value]:
    def convert(site: Site, given: list[Sizes]) -> Value:
        a, b = given
        count = max(len(a.entries), len(b.entries))
        if {len(a.entries), len(b.entries)} - {1, count}:
            raise site.error("its sizes do not fit each other")
        pairs = zip(_stretched(a, count), _stretched(b, count), strict=True)
        found = [_combined(site, function, x, y) for x, y in pairs]
        return settled(found, is_scalar=a.is_scalar and b.is_scalar)

    return convert


def _stretched(sizes: Sizes, count: int) -> tuple[Size, ...]:
    return sizes.entries * count if len(sizes.entries) == 1 else sizes.entries


def _same(_: Site, given: list[Sizes]) -> Value:
    return given[0]


def _cast(site: Site, given: list[Sizes]) -> Value | None:
    return given[0] if site.target_dtype() is torch.int64 else None


def _concatenated(_: Site, given: list[Sizes]) -> Value:
    return settled([entry for sizes in given for entry in sizes.entries])


def _gathered(site: Site, given: list[Sizes]) -> Value | None:
    sizes, indices = given
    numbers = [index for index in indices.entries if isinstance(index, int)]
    if len(numbers) < len(indices.entries):
        return None
    if any(not -len(sizes.entries) <= number < len(sizes.entries) for number in numbers):
        raise site.error("it reads an axis that there is not")
    return settled([sizes.entries[number] for number in numbers], is_scalar=indices.is_scalar)


def _sliced(site: Site, given: list[Sizes]) -> Value:
    start, end = site.ints(1)[0], site.ints(2)[0]
    step = site.ints(4)[0] if site.has(4) else 1
    return settled(given[0].entries[slice(start, end, step)])


def _squeezed(_: Site, given: list[Sizes]) -> Value:
    return settled(given[0].entries, is_scalar=len(given[0].entries) == 1)


def _unsqueezed(_: Site, given: list[Sizes]) -> Value | None:
    return settled(given[0].entries) if given[0].is_scalar else None


def _reshaped(site: Site, given: list[Sizes]) -> Value | None:
    wanted = site.ints(1)
    return settled(given[0].entries, is_scalar=not wanted) if len(wanted) <= 1 else None


_RULES: dict[str, Callable[[Site, list[Sizes]], Value | None]] = {
    "Add": _binary(operator.add),
    "Sub": _binary(operator.sub),
    "Mul": _binary(operator.mul),
    "Div": _binary(operator.floordiv),  # sizes are not negative, so rounding down is cutting off
    "Identity": _same,
    "Cast": _cast,
    "Concat": _concatenated,
    "Gather": _gathered,
    "Slice": _sliced,
    "Squeeze": _squeezed,
    "Unsqueeze": _unsqueezed,
    "Reshape": _reshaped,
}


def on_sizes(site: Site) -> Value | None:
    """Return what an operation makes of sizes, or None where it is one on tensors."""
    rule = _RULES.get(site.kind)
    if rule is None or not any(isinstance(value, Sizes) for value in site.inputs):
        return None
    given = [as_sizes(value) for value in site.inputs]
    known = [sizes for sizes in given if sizes is not None]
    return rule(site, known) if len(known) == len(given) else None


OPERATORS: dict[str, Callable[[Site], Value]] = {"Shape": shape, "Size": size}
"""The operations that read sizes."""
