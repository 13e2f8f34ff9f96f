"""Let a copy of a model read the caller's memory while only passes look at it.

::

    caller   W ── memory            caller   W ──┬── memory
    copy     W ── memory again      copy     W ──┘            until the passes are done

A copy is needed while the model's own Python runs, which may write anything. Passes write no tensor
of the model: they make new ones. So after the trace the copy can give its memory back, and layers
that nobody changed get memory of their own at the end, when those that were folded need no old one.

A large tensor is lent, where nothing but the modules of the copy can know it, by the number of its
references, and where it is equal to the caller's, bit for bit.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from torch import Tensor

_PLAIN = (torch.Tensor, nn.Parameter)
_FEW = 1 << 10
"""How many elements are not worth asking about, such as those of a batch norm."""


@dataclass(slots=True)
class _Known:
    """A tensor of a copy, and how often the modules hold it."""

    tensor: Tensor
    entries: int = 0


class Loan:
    """The memory that a copy of a model has from the model.

    Args:
        original: The caller's model.
        trees: The copy first, and every other module tree that holds its tensors. No module of
            them is the caller's own.
    """

    def __init__(self, original: nn.Module, trees: Sequence[nn.Module]) -> None:
        self._pointers: set[int] = set()
        owners = _by_path(original)
        known = _known(trees)
        probe = _references(_Known(torch.zeros(1)))
        places = {path: id(tensor) for path, tensor in _by_path(trees[0]).items()}
        for path, place in places.items():
            owner, mine = owners.get(path), known[place]
            if mine.tensor.numel() <= _FEW:
                continue
            if owner is None or not (_is_plain(owner) and _is_plain(mine.tensor)):
                continue  # others may have no memory of the usual kind to ask about
            if _references(mine) == probe and _is_equal(mine.tensor, owner):
                mine.tensor.data = owner.detach()
                self._pointers.add(owner.data_ptr())

    def settle(self, module: nn.Module) -> None:
        """Give a module memory of its own for what it still has from the caller's model."""
        for tensor in (*module.parameters(), *module.buffers()):
            if tensor.numel() > _FEW and _is_plain(tensor) and tensor.data_ptr() in self._pointers:
                tensor.data = tensor.data.clone()


def _known(trees: Sequence[nn.Module]) -> dict[int, _Known]:
    """Return the tensors that the modules of some trees hold, by their identity."""
    known: dict[int, _Known] = {}
    for table in _tables(trees):
        for tensor in table.values():
            if tensor is not None:
                known.setdefault(id(tensor), _Known(tensor)).entries += 1
    return known


def _by_path(module: nn.Module) -> dict[str, Tensor]:
    """Return the tensors of a module; those at several paths are there once."""
    return {**dict(module.named_parameters()), **dict(module.named_buffers())}


def _tables(trees: Sequence[nn.Module]) -> Iterator[Mapping[str, Tensor | None]]:
    """Yield what holds the tensors of the modules of some trees, each once."""
    for module in {id(m): m for tree in trees for m in tree.modules()}.values():
        yield module._parameters
        yield module._buffers


def _references(known: _Known) -> tuple[int, int]:
    """Return how many know a tensor beside the modules, and how many its memory."""
    storage = known.tensor.untyped_storage()
    return sys.getrefcount(known.tensor) - known.entries, torch._C._storage_Use_Count(
        storage._cdata
    )


def _is_plain(tensor: Tensor) -> bool:
    """Whether a tensor is a dense one that has its memory for itself, all of it, and no more."""
    return (
        type(tensor) in _PLAIN
        and tensor.layout is torch.strided
        and not (tensor.is_meta or tensor.is_nested or tensor.is_inference())
        and not (tensor.is_conj() or tensor.is_neg())
        and tensor.numel() > 0
        and tensor.untyped_storage().nbytes() == tensor.numel() * tensor.element_size()
        and (
            tensor.is_contiguous()
            or torch.empty_like(tensor, device="meta").stride() == tensor.stride()
        )
    )


def _is_equal(mine: Tensor, owner: Tensor) -> bool:
    """Whether two tensors are of one kind, laid out alike and equal; one with a NaN is not."""
    return (
        (mine.dtype, mine.device, mine.shape) == (owner.dtype, owner.device, owner.shape)
        and mine.stride() == owner.stride()
        and torch.equal(mine, owner)
    )
