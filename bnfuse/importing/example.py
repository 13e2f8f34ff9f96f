"""Inputs to call an imported file with, made from the shapes that it declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from bnfuse.errors import RequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch import Tensor

    from bnfuse.importing.file import OnnxFile
    from bnfuse.importing.shapes import Type

OPEN_BATCH = 2
"""The batch size to try an open one with: 1 would be taken for a fixed size."""


def example_of(
    file: OnnxFile, shapes: Sequence[Sequence[int]] = (), seed: int = 0
) -> tuple[Tensor, ...]:
    """Return a tensor for each input of a file.

    Numbers with fractions are drawn from a normal distribution, whole ones are 0 or 1, so that they
    can be indices. An open first axis is taken for a batch.

    Args:
        file: The file.
        shapes: The shape of each input, in order; none for those that the file declares.
        seed: The seed.

    Raises:
        RequestError: The file leaves a size open that is not given, or the shapes do not fit it.
    """
    if shapes and len(shapes) != len(file.inputs):
        raise RequestError(
            f"{file.path} takes {len(file.inputs)} inputs ({', '.join(file.inputs)}) and "
            f"{len(shapes)} shapes are given: give one for each."
        )
    generator = torch.Generator().manual_seed(seed)
    made = []
    for index, (name, declared) in enumerate(file.inputs.items()):
        shape = shapes[index] if shapes else _shape(file, name, declared)
        _check_fit(file, name, declared, shape)
        made.append(_drawn(shape, declared.dtype, generator))
    return tuple(made)


def _shape(file: OnnxFile, name: str, declared: Type) -> tuple[int, ...]:
    dims = declared.dims
    sizes = (
        None
        if dims is None
        else [OPEN_BATCH if size is None and axis == 0 else size for axis, size in enumerate(dims)]
    )
    if sizes is None or None in sizes:
        raise RequestError(
            f"{file.path} leaves sizes of its input {name!r} open: give a shape that it takes, "
            "such as --input 1x3x224x224, or example inputs."
        )
    return tuple(size for size in sizes if size is not None)


def _check_fit(file: OnnxFile, name: str, declared: Type, shape: Sequence[int]) -> None:
    dims = declared.dims
    if dims is None:
        return
    is_fit = len(dims) == len(shape) and all(
        fixed in (None, size) for fixed, size in zip(dims, shape, strict=True)
    )
    if not is_fit:
        raise RequestError(
            f"the input {name!r} of {file.path} has the shape {declared.shape}, and "
            f"{'x'.join(map(str, shape))} is given: give one that fits."
        )


def _drawn(shape: Sequence[int], dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    if dtype.is_floating_point:
        return torch.randn(tuple(shape), generator=generator).to(dtype)
    return torch.randint(0, 2, tuple(shape), generator=generator).to(dtype)
