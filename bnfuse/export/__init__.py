"""Files for other runtimes to load."""

from bnfuse.export.onnx import OnnxExport, export_onnx
from bnfuse.export.pt2 import Pt2Export, export_pt2, load
from bnfuse.export.tensorrt import TensorrtExport, export_tensorrt
from bnfuse.export.torch_tensorrt import TensorrtModule, compile_tensorrt
from bnfuse.export.triton import TritonExport, export_triton

__all__ = [
    "OnnxExport",
    "Pt2Export",
    "TensorrtExport",
    "TensorrtModule",
    "TritonExport",
    "compile_tensorrt",
    "export_onnx",
    "export_pt2",
    "export_tensorrt",
    "export_triton",
    "load",
]
