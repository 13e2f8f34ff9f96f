"""Run an ONNX file in onnxruntime."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.utils import _pytree as pytree

from bnfuse.errors import ExportError, RequestError
from bnfuse.extras import require

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bnfuse.validation.inputs import Arguments


_CPU, _CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
_NOT_USED = "onnxruntime runs {} with {}, not with {}: {}"
_DTYPES = {
    "tensor(float16)": torch.float16,
    "tensor(bfloat16)": torch.bfloat16,
    "tensor(float)": torch.float32,
    "tensor(double)": torch.float64,
}


def file_device() -> str:
    """Return where ONNX files run: on CUDA where both PyTorch and onnxruntime have it.

    Raises:
        MissingDependencyError: onnxruntime is not installed.
    """
    runtime = require("onnxruntime", "to run ONNX files")
    has_provider = _CUDA in runtime.get_available_providers()
    return "cuda" if has_provider and torch.cuda.is_available() else "cpu"


class OnnxSession:
    """An ONNX file loaded in onnxruntime.

    Spinning threads are off: they would starve whatever runs next. TF32 is off, and a session
    that was to run on CUDA and does not is an error rather than a slower answer: onnxruntime itself
    falls back to the CPU without a word.

    Attributes:
        provider: The execution provider in use.
        described: The device and the execution provider in use.
        dtype: The dtype of its first floating-point input, or output where no input has one.

    Args:
        path: The file.
        cuda: Whether to run on CUDA.
        threads: How many threads to use; None for as many as PyTorch uses.
        providers: The execution providers to use instead, in order, as ``InferenceSession`` takes
            them; the first has to be the one in use.

    Raises:
        RequestError: There is no such file, or it is no ONNX file, or onnxruntime has no such
            provider here.
        ExportError: onnxruntime does not use the provider that was asked for.
        MissingDependencyError: onnxruntime is not installed.
    """

    def __init__(
        self,
        path: Path,
        *,
        cuda: bool = False,
        threads: int | None = None,
        providers: Sequence[Any] | None = None,
    ) -> None:
        runtime = require("onnxruntime", "to run ONNX files")
        if not path.is_file():
            raise RequestError(f"there is no file {path}: check the path.")
        asked = provider_names(providers) if providers is not None else [_CUDA if cuda else _CPU]
        self._session = _session(runtime, path, providers or asked, asked, threads)
        self.provider: str = self._session.get_providers()[0]
        if self.provider != asked[0]:
            raise ExportError(_NOT_USED.format(path, self.provider, asked[0], _remedy(asked[0])))
        place = "cuda" if self.provider == _CUDA else "cpu"
        self.described = f"{place}, onnxruntime {self.provider}"
        self._inputs = [given.name for given in self._session.get_inputs()]
        ends = [*self._session.get_inputs(), *self._session.get_outputs()]
        kinds = [_DTYPES.get(end.type) for end in ends]
        self.dtype = next((kind for kind in kinds if kind is not None), None)

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


def provider_names(providers: Sequence[Any]) -> list[str]:
    """Return the names of execution providers, each given as a name or with its settings.

    Raises:
        RequestError: There is none, or onnxruntime has no such provider here.
        MissingDependencyError: onnxruntime is not installed.
    """
    if isinstance(providers, str) or not providers:
        raise RequestError(
            f"providers is {providers!r}: pass a list of execution providers, such as [{_CPU!r}]."
        )
    names = [given if isinstance(given, str) else str(given[0]) for given in providers]
    known = require("onnxruntime", "to run ONNX files").get_available_providers()
    for name in names:
        if name not in known:
            raise RequestError(
                f"onnxruntime has no {name} here, only {', '.join(known)}: {_remedy(name)}"
            )
    return names


def _session(
    runtime: Any, path: Path, providers: Sequence[Any], asked: Sequence[str], threads: int | None
) -> Any:
    """Load a file, with nothing but the providers that were asked for.

    Raises:
        RequestError: It cannot be loaded, or they cannot run all of it.
        ExportError: The first of them cannot be used here at all.
    """

    def loaded(is_strict: bool) -> Any:
        options = runtime.SessionOptions()
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.intra_op_num_threads = threads or torch.get_num_threads()
        options.log_severity_level = 4  # what matters is raised
        if is_strict and _CPU not in asked:
            options.add_session_config_entry("session.disable_cpu_ep_fallback", "1")
        settings = [(_CUDA, {"use_tf32": "0"}) if given == _CUDA else given for given in providers]
        return runtime.InferenceSession(str(path), options, providers=settings, enable_fallback=0)

    try:
        return loaded(is_strict=True)
    except Exception as error:
        line = (str(error).strip().splitlines() or [type(error).__name__])[0]
        if "fallback to CPU EP" in line:  # so it says, whether the provider runs a part or nothing
            used = loaded(is_strict=False).get_providers()[0]
            if used != asked[0]:
                why = _NOT_USED.format(path, used, asked[0], _remedy(asked[0]))
                raise ExportError(why) from error
            raise RequestError(
                f"{asked[0]} cannot run all of {path} ({line}): "
                f"pass providers={[*asked, _CPU]!r} to let the CPU do the rest."
            ) from error
        if "NOT_IMPLEMENTED" in line:
            raise RequestError(
                f"{' and '.join(asked)} cannot run {path} ({line}): name other providers, "
                "or leave the check out."
            ) from error
        raise RequestError(
            f"onnxruntime cannot load {path} ({line}): export the file again."
        ) from error


def _remedy(provider: str) -> str:
    if provider == _CUDA:
        return (
            "install 'bnfuse[gpu]' in place of 'bnfuse[cpu]', see bnfuse doctor, "
            "or run it on the CPU."
        )
    return "name a provider that can run it."
