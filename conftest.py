"""What pytest cannot import where a package is missing."""

from importlib.util import find_spec

_KERNELS = ["bnfuse/kernels/triton_activations.py", "bnfuse/kernels/triton_epilogue.py"]
collect_ignore = [] if find_spec("triton") else _KERNELS
