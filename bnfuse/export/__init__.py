"""Files for other runtimes to load."""

from bnfuse.export.onnx import OnnxExport, export_onnx
from bnfuse.export.pt2 import Pt2Export, export_pt2, load
from bnfuse.export.tensorrt import TensorrtExport, export_tensorrt

__all__ = [
    "OnnxExport",
    "Pt2Export",
    "TensorrtExport",
    "export_onnx",
    "export_pt2",
    "export_tensorrt",
    "load",
]
