"""The model of the Python backend, with a stand-in for what Triton brings."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from bnfuse.export.triton_model import TritonPythonModel

if TYPE_CHECKING:
    from pathlib import Path


class Tensor:
    """A named array."""

    def __init__(self, name: str, array: Any) -> None:
        self.name, self.array = name, array

    def as_numpy(self) -> Any:
        return self.array


class Response:
    """An answer, or what went wrong."""

    def __init__(self, tensors: list[Tensor], error: Any = None) -> None:
        self.tensors, self.error = tensors, error


@pytest.fixture(autouse=True)
def utils(monkeypatch: pytest.MonkeyPatch) -> None:
    """Put Triton's module in place, for which requests are dictionaries."""
    module = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=Response,
        TritonError=str,
        get_input_tensor_by_name=lambda request, name: Tensor(name, request[name]),
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", module)


def loaded(folder: Path, batches: int = 8, kind: str = "CPU") -> TritonPythonModel:
    """Return the model, which adds its inputs, loaded as Triton does."""
    sizes = ["b", "n"]
    a, b, c = (helper.make_tensor_value_info(name, TensorProto.FLOAT, sizes) for name in "abc")
    graph = helper.make_graph([helper.make_node("Add", ["a", "b"], ["c"])], "g", [a, b], [c])
    (folder / "3").mkdir()
    opsets = [helper.make_opsetid("", 20)]
    proto = helper.make_model(graph, opset_imports=opsets, ir_version=10)
    onnx.save(proto, folder / "3" / "model.onnx")
    model = TritonPythonModel()
    model.initialize(
        {
            "model_config": json.dumps({"max_batch_size": batches}),
            "model_repository": str(folder),
            "model_version": "3",
            "model_instance_kind": kind,
        }
    )
    return model


def request(batch: int, size: int, seed: int) -> dict[str, Any]:
    """Return a request."""
    random = np.random.default_rng(seed)
    return {name: random.normal(size=(batch, size)).astype("float32") for name in "ab"}


def answers(model: TritonPythonModel, requests: list[dict[str, Any]]) -> None:
    """Check that each request gets its own answer."""
    responses = model.execute(requests)
    assert len(responses) == len(requests)
    for asked, response in zip(requests, responses, strict=True):
        assert response.error is None
        (tensor,) = response.tensors
        assert tensor.name == "c"
        np.testing.assert_array_equal(tensor.as_numpy(), asked["a"] + asked["b"])


def counted(model: TritonPythonModel) -> list[int]:
    """Note the batches that the file is run with."""
    sizes: list[int] = []
    session = model.session

    def run(outputs: list[str], feed: dict[str, Any]) -> Any:
        sizes.append(len(feed["a"]))
        return session.run(outputs, feed)

    model.session = SimpleNamespace(run=run)
    return sizes


def test_requests_run_as_one_batch(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    sizes = counted(model)
    answers(model, [request(1, 4, 0), request(3, 4, 1), request(2, 4, 2)])
    assert sizes == [6]


def test_only_samples_of_one_shape_run_together(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    sizes = counted(model)
    answers(model, [request(1, 4, 0), request(1, 5, 1), request(2, 4, 2)])
    assert sizes == [3, 1]


def test_requests_kept_to_themselves(tmp_path: Path) -> None:
    model = loaded(tmp_path, batches=0)
    sizes = counted(model)
    answers(model, [request(1, 4, 0), request(2, 4, 1)])
    assert sizes == [1, 2]


def test_bad_request_fails_alone(tmp_path: Path) -> None:
    model = loaded(tmp_path)
    bad = {"a": np.zeros((2, 3), "float32"), "b": np.zeros((2, 4), "float32")}
    first, second = model.execute([bad, request(1, 4, 0)])
    assert second.error is None
    assert first.tensors == []
    assert "a" in first.error


def test_gpu_that_is_missing(tmp_path: Path) -> None:
    import onnxruntime

    if "CUDAExecutionProvider" in onnxruntime.get_available_providers():
        pytest.skip("onnxruntime has CUDA")
    with (
        pytest.warns(UserWarning, match="CUDAExecutionProvider"),
        pytest.raises(RuntimeError, match="use KIND_CPU"),
    ):
        loaded(tmp_path, kind="GPU")
