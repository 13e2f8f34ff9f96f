"""The model of Triton's Python backend: runs ``model.onnx`` beside it in onnxruntime.

``bnfuse.export_triton`` copies this file into repositories, so it needs nothing but NumPy,
onnxruntime and what Triton itself brings.
"""

from __future__ import annotations

import importlib
import json
from pathlib import Path
from typing import Any


class TritonPythonModel:
    """What Triton makes an instance of, under this name."""

    def initialize(self, args: dict[str, str]) -> None:
        """Load the file.

        Args:
            args: What Triton says of the model: its configuration, repository and version.
        """
        runtime = importlib.import_module("onnxruntime")
        self.utils: Any = importlib.import_module("triton_python_backend_utils")
        config = json.loads(args["model_config"])
        self.is_batching = int(config["max_batch_size"]) > 0
        path = Path(args["model_repository"]) / args["model_version"] / "model.onnx"
        options = runtime.SessionOptions()
        # Instances share the processor: threads that spin would starve the others.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        is_gpu = args["model_instance_kind"] == "GPU"
        providers = ["CUDAExecutionProvider"] if is_gpu else ["CPUExecutionProvider"]
        self.session: Any = runtime.InferenceSession(str(path), options, providers=providers)
        if self.session.get_providers()[0] != providers[0]:
            raise RuntimeError(f"onnxruntime has no {providers[0]} here: use KIND_CPU")
        self.inputs = [given.name for given in self.session.get_inputs()]
        self.outputs = [made.name for made in self.session.get_outputs()]

    def execute(self, requests: list[Any]) -> list[Any]:
        """Answer each request, those whose samples have the same shapes in one call."""
        responses: list[Any] = [None] * len(requests)
        for indices in self._groups(requests):
            try:
                answers = self._run([requests[index] for index in indices])
            except Exception as error:  # one bad group is no reason to fail the others
                failed = self.utils.TritonError(str(error))
                answers = [self.utils.InferenceResponse([], failed) for _ in indices]
            for index, answer in zip(indices, answers, strict=True):
                responses[index] = answer
        return responses

    def _groups(self, requests: list[Any]) -> list[list[int]]:
        """Return the indices of the requests that can run together."""
        if not self.is_batching:
            return [[index] for index in range(len(requests))]
        found: dict[tuple[Any, ...], list[int]] = {}
        for index, request in enumerate(requests):
            shapes = tuple(self._array(request, name).shape[1:] for name in self.inputs)
            found.setdefault(shapes, []).append(index)
        return list(found.values())

    def _run(self, requests: list[Any]) -> list[Any]:
        """Run requests as one batch and share out the samples of the answer."""
        arrays = {name: [self._array(r, name) for r in requests] for name in self.inputs}
        if len(requests) == 1:
            feed = {name: entries[0] for name, entries in arrays.items()}
            return [self._response(self.session.run(self.outputs, feed))]
        numpy = importlib.import_module("numpy")
        feed = {name: numpy.concatenate(entries) for name, entries in arrays.items()}
        made = self.session.run(self.outputs, feed)
        sizes = [len(entry) for entry in arrays[self.inputs[0]]]
        ends = numpy.cumsum(sizes)
        pairs = zip(ends - sizes, ends, strict=True)
        return [self._response([array[start:end] for array in made]) for start, end in pairs]

    def _array(self, request: Any, name: str) -> Any:
        return self.utils.get_input_tensor_by_name(request, name).as_numpy()

    def _response(self, arrays: list[Any]) -> Any:
        pairs = zip(self.outputs, arrays, strict=True)
        return self.utils.InferenceResponse([self.utils.Tensor(n, array) for n, array in pairs])
