"""bnfuse folds batch norms into the layers around them, checks the result, exports it, times it."""

from bnfuse.bench import benchmark
from bnfuse.errors import AssumptionError, BnfuseError
from bnfuse.export import (
    compile_tensorrt,
    export_onnx,
    export_pt2,
    export_tensorrt,
    export_triton,
    load,
)
from bnfuse.optimizer import explain, optimize
from bnfuse.report import report
from bnfuse.validation import verify

__version__ = "0.1.0"

__all__ = [
    "AssumptionError",
    "BnfuseError",
    "benchmark",
    "compile_tensorrt",
    "explain",
    "export_onnx",
    "export_pt2",
    "export_tensorrt",
    "export_triton",
    "load",
    "optimize",
    "report",
    "verify",
]
