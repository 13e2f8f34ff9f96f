"""Layers fused with what follows them, and the kernels that run them: oneDNN's, or plain ones."""

from bnfuse.kernels.activation import Activation
from bnfuse.kernels.epilogue import Epilogue
from bnfuse.kernels.fused import FusedLayer
from bnfuse.kernels.layers import can_fuse, fuse, release

__all__ = ["Activation", "Epilogue", "FusedLayer", "can_fuse", "fuse", "release"]
