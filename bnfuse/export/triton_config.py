"""The configuration of a model for Triton Inference Server, as Triton's own protobuf message."""

from __future__ import annotations

import importlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnfuse.errors import ExportError, RequestError
from bnfuse.extras import require

if TYPE_CHECKING:
    from collections.abc import Sequence

    from bnfuse.export.tensorrt_facts import EngineFacts

FILES = {"onnxruntime": "model.onnx", "tensorrt": "model.plan", "python": "model.py"}
"""The backends, and the file that each one loads."""
_PLATFORMS = {"onnxruntime": "onnxruntime_onnx", "tensorrt": "tensorrt_plan", "python": ""}
KINDS = {"auto": "KIND_AUTO", "cpu": "KIND_CPU", "gpu": "KIND_GPU"}
_ENGINE_TYPES = {
    "FLOAT": "TYPE_FP32",
    "HALF": "TYPE_FP16",
    "BF16": "TYPE_BF16",
    "INT64": "TYPE_INT64",
    "INT32": "TYPE_INT32",
    "INT8": "TYPE_INT8",
    "UINT8": "TYPE_UINT8",
    "BOOL": "TYPE_BOOL",
}
_ONNX_TYPES = {
    "FLOAT": "TYPE_FP32",
    "FLOAT16": "TYPE_FP16",
    "DOUBLE": "TYPE_FP64",
    "BFLOAT16": "TYPE_BF16",
    **{name: f"TYPE_{name}" for name in ("BOOL", "INT8", "INT16", "INT32", "INT64")},
    **{name: f"TYPE_{name}" for name in ("UINT8", "UINT16", "UINT32", "UINT64")},
}


@dataclass(frozen=True, slots=True)
class ServedTensor:
    """An input or an output of a model that is served.

    Attributes:
        name: Its name in the file.
        data_type: Triton's name of its dtype, such as ``TYPE_FP16``.
        shape: Its sizes, -1 for open ones.
    """

    name: str
    data_type: str
    shape: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class ServingOptions:
    """How a model is to be served; ``export_triton`` says more of each.

    Attributes:
        backend: What runs it.
        max_batch_size: The largest batch that is made of requests; 0 for none.
        preferred_batch_sizes: The batches not to wait any longer for.
        max_queue_delay_us: How long a request may wait for others, in microseconds.
        instances: How many copies run at once, on each device.
        kind: Where they run.
        versions: How many of the newest versions are served.
        warm_up: Whether each instance answers made-up requests before real ones.
    """

    backend: str = "onnxruntime"
    max_batch_size: int = 32
    preferred_batch_sizes: Sequence[int] = ()
    max_queue_delay_us: int = 100
    instances: int = 1
    kind: str = "auto"
    versions: int = 1
    warm_up: bool = True

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            RequestError: An option is wrong.
        """
        for what, value, known in (
            ("backend", self.backend, FILES),
            ("kind", self.kind, KINDS),
        ):
            if value not in known:
                raise RequestError(f"{what} is {value!r}: pass one of {', '.join(known)}.")
        for what, smallest in (
            ("max_batch_size", 0),
            ("max_queue_delay_us", 0),
            ("instances", 1),
            ("versions", 1),
        ):
            if getattr(self, what) < smallest:
                raise RequestError(
                    f"{what} is {getattr(self, what)}: pass a number from {smallest} on."
                )
        largest = max(self.preferred_batch_sizes, default=0)
        if largest > self.max_batch_size or min(self.preferred_batch_sizes, default=1) < 1:
            raise RequestError(
                f"preferred_batch_sizes is {tuple(self.preferred_batch_sizes)!r}: pass sizes from "
                f"1 to max_batch_size, {self.max_batch_size}."
            )
        if self.backend == "tensorrt" and self.kind == "cpu":
            raise RequestError("engines run on GPUs alone: pass kind='gpu' or another backend.")


def of_onnx(proto: Any) -> tuple[list[ServedTensor], list[ServedTensor]]:
    """Return the inputs and outputs of an ONNX model."""
    onnx = require("onnx", "to export ONNX")

    def served(value: Any) -> ServedTensor:
        kind = value.type.tensor_type
        name = onnx.TensorProto.DataType.Name(kind.elem_type)
        sizes = (d.dim_value if d.HasField("dim_value") else -1 for d in kind.shape.dim)
        return ServedTensor(value.name, _type(value.name, name, _ONNX_TYPES), tuple(sizes))

    return list(map(served, proto.graph.input)), list(map(served, proto.graph.output))


def of_engine(facts: EngineFacts) -> tuple[list[ServedTensor], list[ServedTensor]]:
    """Return the inputs and outputs of an engine."""
    inputs, outputs = (
        [ServedTensor(p.name, _type(p.name, p.dtype, _ENGINE_TYPES), p.shape) for p in ports]
        for ports in (facts.inputs, facts.outputs)
    )
    return inputs, outputs


def _type(tensor: str, dtype: str, known: dict[str, str]) -> str:
    if dtype not in known:
        raise ExportError(
            f"{tensor} is of type {dtype}, which Triton has not: give the model other inputs and "
            "outputs."
        )
    return known[dtype]


def model_config(
    name: str,
    inputs: Sequence[ServedTensor],
    outputs: Sequence[ServedTensor],
    examples: Sequence[tuple[int, ...]],
    options: ServingOptions,
) -> Any:
    """Return the configuration of a model as a ``ModelConfig`` message.

    Args:
        name: Its name.
        inputs: Its inputs.
        outputs: Its outputs.
        examples: The shapes of the inputs in an example, for what is open in a warm-up.
        options: How it is to be served.

    Raises:
        RequestError: Batches are asked for, and a tensor has no open first axis.
    """
    pb = require("tritonclient.grpc.model_config_pb2", "to write a Triton model repository")
    batches = options.max_batch_size > 0
    fixed = [t.name for t in (*inputs, *outputs) if not t.shape or t.shape[0] != -1]
    if batches and fixed:
        raise RequestError(
            f"{fixed[0]} has no open batch size, so requests cannot be batched: pass "
            "max_batch_size=0."
        )
    config = pb.ModelConfig(
        name=name,
        backend=options.backend,
        platform=_PLATFORMS[options.backend],
        default_model_filename=FILES[options.backend],
        max_batch_size=options.max_batch_size,
    )
    config.version_policy.latest.num_versions = options.versions
    for tensors, entries in ((inputs, config.input), (outputs, config.output)):
        for tensor in tensors:
            _add(entries, tensor, tensor.shape[batches:])
    config.instance_group.add(count=options.instances, kind=KINDS[options.kind])
    if batches:
        config.dynamic_batching.preferred_batch_size.extend(options.preferred_batch_sizes)
        config.dynamic_batching.max_queue_delay_microseconds = options.max_queue_delay_us
    for size in (1, options.max_batch_size) if options.warm_up else ():
        if size and not any(entry.batch_size == size for entry in config.model_warmup):
            _warm(config, size, inputs, [shape[batches:] for shape in examples])
    return config


def _add(entries: Any, tensor: ServedTensor, shape: tuple[int, ...]) -> None:
    """Describe an input or output; Triton has none without an axis beside the batch."""
    entry = entries.add(name=tensor.name, data_type=tensor.data_type, dims=shape or (1,))
    if not shape:
        entry.reshape.SetInParent()


def _warm(
    config: Any, size: int, inputs: Sequence[ServedTensor], shapes: Sequence[tuple[int, ...]]
) -> None:
    """Add a made-up request of so many samples."""
    request = config.model_warmup.add(name=f"batch of {size}", batch_size=size)
    for tensor, shape in zip(inputs, shapes, strict=True):
        value = request.inputs[tensor.name]
        value.data_type = (
            config.DESCRIPTOR.fields_by_name["input"]
            .message_type.fields_by_name["data_type"]
            .enum_type.values_by_name[tensor.data_type]
            .number
        )
        value.dims.extend(shape or (1,))
        if tensor.data_type in ("TYPE_FP16", "TYPE_FP32", "TYPE_FP64"):
            value.random_data = True
        else:  # any number may not be one that the model takes
            value.zero_data = True


def as_text(config: Any) -> str:
    """Return the content of ``config.pbtxt``, which Triton's own message has read again."""
    text = importlib.import_module("google.protobuf.text_format")
    content: str = text.MessageToString(config)
    if read_config(content) != config:
        raise ExportError("the configuration does not come back from its text: please report it.")
    return content


def read_config(content: str) -> Any:
    """Return a configuration from its text.

    Raises:
        RequestError: It is none.
    """
    pb = require("tritonclient.grpc.model_config_pb2", "to read a Triton model repository")
    text = importlib.import_module("google.protobuf.text_format")
    try:
        return text.Parse(content, pb.ModelConfig())
    except text.ParseError as error:
        raise RequestError(
            f"the configuration is not one of Triton's ({error}): mend or remove it."
        ) from error
