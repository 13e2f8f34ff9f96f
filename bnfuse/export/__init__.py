"""Files for other runtimes to load."""

from bnfuse.export.onnx import OnnxExport, export_onnx

__all__ = ["OnnxExport", "export_onnx"]
