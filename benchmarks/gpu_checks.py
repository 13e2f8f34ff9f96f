"""The eight models, optimized and verified on the GPU in three dtypes."""

from __future__ import annotations

from typing import Any

import bnfuse
from benchmarks.gpu_models import loaded, optimized


def verified(model: str, dtype: str, device: str = "cuda") -> dict[str, Any]:
    """Compare an optimized model with the unfused one in float64, on the GPU.

    The model keeps its values in float32; what is optimized for half precision is compared with
    them, and may err 4 times as much as the unfused model converted to half.
    """
    fused = optimized(model, dtype)
    report = bnfuse.report(fused)
    found = bnfuse.verify(loaded(model).model, fused, loaded(model).example_inputs, device=device)
    return {
        "passed": found.passed,
        "error": found.max_rel_error,
        "own_error": max(o.own_error / (o.scale or 1.0) for o in found.outputs),
        "complaints": [o.complaint for o in found.outputs if o.complaint],
        "device": found.device,
        "batch_norms": report.total,
        "gone": len(report.folded) + len(report.merged),
    }
