"""Configurations for Triton: what they say, that Triton's own message reads them, and refusals."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from onnx import TensorProto, helper

from bnfuse.errors import ExportError, RequestError
from bnfuse.export.tensorrt_build import Port
from bnfuse.export.tensorrt_facts import EngineFacts
from bnfuse.export.triton_config import (
    ServedTensor,
    ServingOptions,
    as_text,
    model_config,
    of_engine,
    of_onnx,
    read_config,
)

pb = pytest.importorskip("tritonclient.grpc.model_config_pb2", reason="no tritonclient")
json_format = pytest.importorskip("google.protobuf.json_format")

X = ServedTensor("x", "TYPE_FP16", (-1, 3, -1, 8))
IDS = ServedTensor("ids", "TYPE_INT64", (-1,))
Y = ServedTensor("y", "TYPE_FP32", (-1, 10))
SHAPES = [(2, 3, 6, 8), (2,)]


def made(**options: Any) -> Any:
    """Return a configuration as plain data."""
    config = model_config("net", (X, IDS), (Y,), SHAPES, ServingOptions(**options))
    assert read_config(as_text(config)) == config
    return json.loads(json_format.MessageToJson(config, preserving_proto_field_name=True))


def test_batches_are_made_of_requests() -> None:
    config = made(
        max_batch_size=16,
        preferred_batch_sizes=(8, 16),
        max_queue_delay_us=500,
        instances=2,
        kind="gpu",
        versions=3,
    )
    assert config["name"] == "net"
    assert (config["backend"], config["platform"]) == ("onnxruntime", "onnxruntime_onnx")
    assert config["default_model_filename"] == "model.onnx"
    assert config["max_batch_size"] == 16
    assert config["dynamic_batching"] == {
        "preferred_batch_size": [8, 16],
        "max_queue_delay_microseconds": "500",
    }
    assert config["instance_group"] == [{"count": 2, "kind": "KIND_GPU"}]
    assert config["version_policy"] == {"latest": {"num_versions": 3}}
    x, ids = config["input"]
    assert x == {"name": "x", "data_type": "TYPE_FP16", "dims": ["3", "-1", "8"]}
    # A sample of one number has no axis left, which Triton wants said in this way.
    assert ids == {"name": "ids", "data_type": "TYPE_INT64", "dims": ["1"], "reshape": {}}
    assert config["output"] == [{"name": "y", "data_type": "TYPE_FP32", "dims": ["10"]}]


def test_warm_up() -> None:
    one, many = made(max_batch_size=16)["model_warmup"]
    assert (one["batch_size"], many["batch_size"]) == (1, 16)
    x = {"data_type": "TYPE_FP16", "dims": ["3", "6", "8"], "random_data": True}
    ids = {"data_type": "TYPE_INT64", "dims": ["1"], "zero_data": True}
    assert one["inputs"] == many["inputs"] == {"x": x, "ids": ids}
    assert len(made(max_batch_size=1)["model_warmup"]) == 1
    assert "model_warmup" not in made(warm_up=False)


def test_requests_kept_to_themselves() -> None:
    config = made(max_batch_size=0)
    assert "dynamic_batching" not in config
    assert config["input"][0]["dims"] == ["-1", "3", "-1", "8"]
    (warm,) = config["model_warmup"]
    assert (warm["batch_size"], warm["inputs"]["x"]["dims"]) == (1, ["2", "3", "6", "8"])


@pytest.mark.parametrize("tensor", [replace(Y, shape=(2, 10)), replace(Y, shape=())])
def test_fixed_batch_cannot_be_batched(tensor: ServedTensor) -> None:
    with pytest.raises(RequestError, match=r"^y has no open batch size, .* max_batch_size=0"):
        model_config("net", (X, IDS), (tensor,), SHAPES, ServingOptions())
    assert model_config("net", (X, IDS), (tensor,), SHAPES, ServingOptions(max_batch_size=0))


def test_tensors_of_an_onnx_file() -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["batch", 3])
    y = helper.make_tensor_value_info("y", TensorProto.INT64, [None, 2])
    node = helper.make_node("Shape", ["x"], ["y"])
    proto = helper.make_model(helper.make_graph([node], "g", [x], [y]))
    inputs, outputs = of_onnx(proto)
    assert inputs == [ServedTensor("x", "TYPE_FP16", (-1, 3))]
    assert outputs == [ServedTensor("y", "TYPE_INT64", (-1, 2))]
    proto.graph.output[0].type.tensor_type.elem_type = TensorProto.COMPLEX64
    with pytest.raises(ExportError, match=r"^y is of type COMPLEX64, which Triton has not"):
        of_onnx(proto)


def test_tensors_of_an_engine() -> None:
    ports = ((Port("x", "BF16", (-1, 3)),), (Port("y", "BOOL", (-1,)),))
    facts = EngineFacts("0", "tensorrt", "1", (), "", "", {}, *ports, {})
    assert of_engine(facts) == (
        [ServedTensor("x", "TYPE_BF16", (-1, 3))],
        [ServedTensor("y", "TYPE_BOOL", (-1,))],
    )


@pytest.mark.parametrize(
    ("options", "wanted"),
    [
        ({"backend": "openvino"}, "backend is 'openvino': pass one of onnxruntime, tensorrt, py"),
        ({"kind": "tpu"}, "kind is 'tpu': pass one of auto, cpu, gpu."),
        ({"max_batch_size": -1}, "max_batch_size is -1: pass a number from 0 on."),
        ({"instances": 0}, "instances is 0: pass a number from 1 on."),
        ({"versions": 0}, "versions is 0: pass a number from 1 on."),
        ({"max_queue_delay_us": -5}, "max_queue_delay_us is -5: pass a number from 0 on."),
        ({"preferred_batch_sizes": (64,)}, "preferred_batch_sizes is (64,): pass sizes from 1 to"),
        ({"preferred_batch_sizes": (0,)}, "preferred_batch_sizes is (0,): pass sizes from 1 to"),
        ({"backend": "tensorrt", "kind": "cpu"}, "engines run on GPUs alone: pass kind='gpu'"),
    ],
)
def test_options_that_cannot_be(options: dict[str, Any], wanted: str) -> None:
    with pytest.raises(RequestError) as caught:
        ServingOptions(**options).check()
    assert str(caught.value).startswith(wanted)


@pytest.mark.parametrize("content", ["name: 3", "no_such_field: 1", "max_batch_size: 'x'", "{"])
def test_text_that_is_no_configuration(content: str) -> None:
    with pytest.raises(RequestError, match="is not one of Triton's"):
        read_config(content)
