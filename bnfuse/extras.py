"""Optional packages: imported where they are used, with one clear error where they are missing."""

from __future__ import annotations

import importlib
from typing import Any

from bnfuse.errors import MissingDependencyError

_EXTRA_OF = {
    "matplotlib": "plot",
    "onnx": "cpu",
    "onnx_ir": "cpu",
    "onnxruntime": "cpu",
    "onnxscript": "cpu",
    "timm": "zoo",
    "torch_tensorrt": "tensorrt",
    "torchvision": "zoo",
    "tritonclient": "triton",
}


def require(module: str, purpose: str) -> Any:
    """Import an optional package.

    Args:
        module: The name it is imported by.
        purpose: What it is needed for, as in "to export ONNX".

    Raises:
        MissingDependencyError: It is not installed, or does not import.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        extra = _EXTRA_OF[module.partition(".")[0]]
        raise MissingDependencyError(
            f"{module} is needed {purpose} and does not import ({error}): "
            f"pip install 'bnfuse[{extra}]'."
        ) from error
