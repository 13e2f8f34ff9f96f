"""Switch a GPU's shortcuts off while comparing numbers, and put them back."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator


@contextmanager
def full_precision() -> Iterator[None]:
    """Compute float32 as float32: no TF32, no reduced-precision sums, for the time being.

    Without it a float32 convolution on a recent NVIDIA GPU keeps 10 bits of each factor, and a
    comparison measures the GPU rather than the fold.
    """
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    flags: tuple[tuple[Any, str], ...] = (
        (cudnn, "allow_tf32"),
        (matmul, "allow_tf32"),
        (matmul, "allow_fp16_reduced_precision_reduction"),
        (matmul, "allow_bf16_reduced_precision_reduction"),
    )
    before = [getattr(owner, name) for owner, name in flags]
    try:
        for owner, name in flags:
            setattr(owner, name, False)
        yield
    finally:
        for (owner, name), value in zip(flags, before, strict=True):
            setattr(owner, name, value)
