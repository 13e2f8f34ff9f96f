"""Measurements that may fail: what they raise is a result."""

from __future__ import annotations

import gc
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

LONGEST = 300


def guarded(measure: Callable[..., dict[str, Any]], *args: Any, **kwargs: Any) -> dict[str, Any]:
    """Return what a measurement returns, or the error it raised under ``failed``."""
    try:
        return measure(*args, **kwargs)
    except Exception as error:
        # The error's traceback holds on to tensors until the block ends, so memory is freed after.
        failed = f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST]
    free()
    return {"failed": failed}


def free() -> None:
    """Give back the GPU memory that nothing refers to, where the GPU still answers."""
    gc.collect()
    with suppress(RuntimeError):
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


@contextmanager
def cudnn_tf32(allowed: bool) -> Iterator[None]:
    """Let float32 convolutions of cuDNN use TF32, or not, for the time being."""
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def deviation(got: torch.Tensor, exact: torch.Tensor) -> float:
    """Return the largest deviation relative to the largest exact value; NaN if any is NaN."""
    return float((got.double() - exact).abs().max() / exact.abs().max())
