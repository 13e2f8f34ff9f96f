"""Run a TensorRT engine on the GPU it was built for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from bnfuse.errors import ExportError, RequestError
from bnfuse.export.tensorrt_facts import check_loadable, read_facts
from bnfuse.export.tensorrt_library import find_library, new_log

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.validation.inputs import Arguments

DTYPES = {
    "FLOAT": torch.float32,
    "HALF": torch.float16,
    "BF16": torch.bfloat16,
    "INT64": torch.int64,
    "INT32": torch.int32,
    "INT8": torch.int8,
    "UINT8": torch.uint8,
    "BOOL": torch.bool,
}
"""The library's names of dtypes."""


DEVICE = "cuda"


class EngineSession:
    """An engine loaded on the GPU in use.

    Attributes:
        facts: What it was built with.
        dtype: The dtype of its floating-point inputs, None if it has none.
        described: The device and the library in use.

    Raises:
        RequestError: There is no such engine, or it is without its facts.
        ExportError: It cannot run here: no GPU, another GPU, another version of the library.
        MissingDependencyError: The library that built it is not installed.
    """

    def __init__(self, path: Path) -> None:
        self.facts = read_facts(path)
        library = find_library(self.facts.library)
        check_loadable(self.facts, library, path)
        dtypes = [DTYPES[port.dtype] for port in self.facts.inputs]
        self.dtype = next((dtype for dtype in dtypes if dtype.is_floating_point), None)
        self.described = f"cuda ({torch.cuda.get_device_name()}), {library.described}"
        self._log = new_log(library)
        self._runtime = library.module.Runtime(self._log)
        self._engine = self._runtime.deserialize_cuda_engine(path.read_bytes())
        if self._engine is None:
            raise ExportError(
                f"{library.described} cannot load {path} ({self._log.first()}): build it again on "
                "this machine."
            )
        self._context = self._engine.create_execution_context()

    def run(self, arguments: Arguments) -> list[torch.Tensor]:
        """Run the engine on the tensors among the arguments, in order.

        Raises:
            RequestError: They are not what it was built for.
            ExportError: It fails.
        """
        given = self._feed(arguments)
        made = []
        for port in self.facts.outputs:
            shape = tuple(self._context.get_tensor_shape(port.name))
            made.append(torch.empty(shape, dtype=DTYPES[port.dtype], device=DEVICE))
            self._context.set_tensor_address(port.name, made[-1].data_ptr())
        # The stream that made the inputs: nothing of them is read before it is written.
        stream = torch.cuda.current_stream()
        if not self._context.execute_async_v3(stream.cuda_stream):
            raise ExportError(f"the engine failed ({self._log.first()}).")
        stream.synchronize()
        del given  # alive until the GPU has read them
        return [tensor.cpu() for tensor in made]

    def _feed(self, arguments: Arguments) -> list[torch.Tensor]:
        """Hand the inputs to the engine and return what has to stay alive."""
        leaves: list[Any] = pytree.tree_leaves(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        ports = self.facts.inputs
        if len(tensors) != len(ports):
            raise RequestError(
                f"the engine takes {len(ports)} inputs ({', '.join(p.name for p in ports)}) and "
                f"{len(tensors)} tensors are given: pass the inputs it was exported with."
            )
        kept = []
        for port, tensor in zip(ports, tensors, strict=True):
            sizes = list(zip(port.smallest, tensor.shape, port.largest, strict=False))
            fits = len(port.shape) == tensor.ndim and all(a <= b <= c for a, b, c in sizes)
            if not fits or DTYPES[port.dtype] != tensor.dtype:
                raise RequestError(
                    f"the engine takes {port.name} in {DTYPES[port.dtype]} from "
                    f"{port.smallest} to {port.largest} and got {tensor.dtype} of "
                    f"{tuple(tensor.shape)}: pass what it was built for, or build it with other "
                    "dynamic_shapes."
                )
            kept.append(tensor.to(DEVICE).contiguous())
            self._context.set_input_shape(port.name, tuple(tensor.shape))
            self._context.set_tensor_address(port.name, kept[-1].data_ptr())
        return kept
