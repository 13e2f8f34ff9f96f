"""The sizes of inputs that a file is checked at, and the comparison at all of them."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from bnfuse.validation.inputs import map_tensors
from bnfuse.validation.obstacle import obstacle
from bnfuse.validation.verify import verify

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from torch import Tensor, nn

    from bnfuse.validation import Verification
    from bnfuse.validation.inputs import Arguments

OTHER_BATCH = 3
"""The batch size that a model is tried with, to see whether it takes any."""
BATCHES = (1, OTHER_BATCH)


def with_batch(call: Arguments, size: int) -> Arguments:
    """Return the arguments with another batch size, entries repeated from the given ones."""
    return resized(call, [{0: size} for _ in _tensors(call)])


def resized(call: Arguments, sizes: Sequence[dict[int, int]]) -> Arguments:
    """Return the arguments with other sizes of some axes, entries repeated from the given ones.

    Args:
        call: The arguments.
        sizes: For each tensor among them, in order, the new sizes of its axes.
    """
    wanted = iter(sizes)

    def taken(tensor: Tensor) -> Tensor:
        for axis, size in next(wanted).items():
            if axis < tensor.ndim and tensor.shape[axis]:
                index = torch.arange(size, device=tensor.device) % tensor.shape[axis]
                tensor = tensor.index_select(axis, index)
        return tensor

    return map_tensors(taken, call)


def compared(
    model: nn.Module,
    path: Path,
    call: Arguments,
    axes: Sequence[dict[int, str]],
    providers: Sequence[Any] | None = None,
) -> Verification:
    """Compare a file with the unfused model, at the example's sizes and at others that it takes.

    Args:
        model: The unfused model.
        path: The file.
        call: The arguments of an example call.
        axes: For each tensor among them, the axes of open size with their names.
        providers: As in ``verify``.

    Raises:
        BnfuseError: As ``verify`` does.
    """
    args, kwargs = call
    found = verify(model, path, args, kwargs, providers=providers)
    others = [] if not any(axes) else list(_other_sizes(call, axes))
    outputs = [replace(o, name=f"{o.name}, example's batch") for o in found.outputs]
    sets = found.input_sets
    for label, (args, kwargs) in others:
        if obstacle(model, (args, kwargs)):
            continue
        at_other = verify(model, path, args, kwargs, providers=providers)
        outputs += [replace(o, name=f"{o.name}, {label}") for o in at_other.outputs]
        sets += at_other.input_sets
    if sets == found.input_sets:
        return found
    return replace(found, outputs=tuple(outputs), input_sets=sets)


def _other_sizes(
    call: Arguments, axes: Sequence[dict[int, str]]
) -> Iterator[tuple[str, Arguments]]:
    """Yield other sizes of the open axes: batches of 1 and 3, and all others twice as large."""
    tensors = _tensors(call)
    if len(tensors) != len(axes):
        return
    for batch in BATCHES:
        sizes = [{0: batch} if 0 in names else {} for names in axes]
        if any(t.shape[0] != batch for t, s in zip(tensors, sizes, strict=True) if s):
            yield f"batch {batch}", resized(call, sizes)
    # A name such as 2*s depends on another one, and need not grow as it does.
    if all(name.isidentifier() for names in axes for name in names.values()):
        pairs = list(zip(tensors, axes, strict=True))
        sizes = [{a: 2 * t.shape[a] for a in names if a} for t, names in pairs]
        if any(sizes):
            yield "twice the size", resized(call, sizes)


def _tensors(call: Arguments) -> list[Tensor]:
    return [leaf for leaf in pytree.tree_leaves(call) if isinstance(leaf, torch.Tensor)]
