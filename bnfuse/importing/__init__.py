"""Files of other formats as modules: ONNX in."""

from bnfuse.importing.convert import load_onnx
from bnfuse.importing.deploy import optimize_onnx

__all__ = ["load_onnx", "optimize_onnx"]
