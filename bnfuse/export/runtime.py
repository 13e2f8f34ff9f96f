"""Run an ONNX file in onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from bnfuse.errors import ExportError, RequestError
from bnfuse.extras import require

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.validation.inputs import Arguments


def file_device() -> str:
    """Return where ONNX files run: on CUDA where both PyTorch and onnxruntime have it.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
    """
    runtime = require("onnxruntime", "to run ONNX files")
    has_provider = "CUDAExecutionProvider" in runtime.get_available_providers()
    return "cuda" if has_provider and torch.cuda.is_available() else "cpu"


class OnnxSession:
    """An ONNX file loaded in onnxruntime.

    Spinning threads are off: they would starve whatever runs next. TF32 is off, and a session
    that was to run on CUDA and does not is an error rather than a slower answer.

    Attributes:
        described: The device and the execution provider in use.
        size: Bytes of the file.

    Raises:
        RequestError: There is no such file, or it is no ONNX file.
        ExportError: onnxruntime has no CUDA provider where one was asked for.
        MissingDependencyError: onnxruntime is not installed.
    """

    def __init__(self, path: Path, *, cuda: bool = False, threads: int | None = None) -> None:
        runtime = require("onnxruntime", "to run ONNX files")
        if not path.is_file():
            raise RequestError(f"there is no file {path}: check the path.")
        options = runtime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 3
        providers: list[Any] = ["CPUExecutionProvider"]
        if cuda:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
            providers = [("CUDAExecutionProvider", {"use_tf32": "0"})]
        try:
            self._session = runtime.InferenceSession(str(path), options, providers=providers)
        except Exception as error:
            first_line = str(error).strip().splitlines()[0]
            raise RequestError(
                f"onnxruntime cannot load {path} ({first_line}): export the file again."
            ) from error
        provider = self._session.get_providers()[0]
        if cuda and provider != "CUDAExecutionProvider":
            raise ExportError(
                f"onnxruntime runs {path} with {provider}, not on the GPU: install "
                "'bnfuse[gpu]' in place of 'bnfuse[cpu]', or pass device='cpu'."
            )
        self.described = f"{'cuda' if cuda else 'cpu'}, onnxruntime {provider}"
        self._inputs = [given.name for given in self._session.get_inputs()]

    def run(self, arguments: Arguments) -> list[torch.Tensor]:
        """Run the file on the tensors among the arguments, in order."""
        return [torch.from_numpy(output) for output in self._run(self.feed(arguments))]

    def feed(self, arguments: Arguments) -> dict[str, Any]:
        """Return the arguments as onnxruntime takes them."""
        leaves = pytree.tree_leaves(arguments)
        tensors = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        if len(tensors) != len(self._inputs):
            raise RequestError(
                f"the file takes {len(self._inputs)} inputs ({', '.join(self._inputs)}) and "
                f"{len(tensors)} tensors are given: pass the inputs it was exported with."
            )
        try:
            arrays = [tensor.detach().cpu().numpy() for tensor in tensors]
        except TypeError as error:  # numpy has no bfloat16
            raise RequestError(
                f"onnxruntime cannot be given these inputs ({error}): pass them in float32."
            ) from error
        return dict(zip(self._inputs, arrays, strict=True))

    def time_feed(self, feed: dict[str, Any]) -> None:
        """Run once on a prepared feed and drop the outputs."""
        self._run(feed)

    def _run(self, feed: dict[str, Any]) -> list[Any]:
        try:
            return self._session.run(None, feed)  # type: ignore[no-any-return]  # onnxruntime has no types
        except Exception as error:
            first_line = str(error).strip().splitlines()[0]
            raise RequestError(
                f"the file cannot run on these inputs ({first_line}): "
                "pass inputs like those it was exported with."
            ) from error
