"""Files for other runtimes to load."""

from bnfuse.export.onnx import OnnxExport, export_onnx
from bnfuse.export.pt2 import Pt2Export, export_pt2, load

__all__ = ["OnnxExport", "Pt2Export", "export_onnx", "export_pt2", "load"]
