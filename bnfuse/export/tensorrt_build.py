"""From an ONNX file to a serialized TensorRT engine, with what went into it.

The library's own parser reads bnfuse's ONNX file. The network is strongly typed: each tensor has
the dtype that it has in the file, so that half precision is what the folded weights were rounded
to. TF32 is off, since float32 is to mean float32.
"""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from bnfuse.errors import ExportError
from bnfuse.export.tensorrt_library import RTX, new_builder, new_log

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.export.tensorrt_library import Library
    from bnfuse.export.tensorrt_ranges import Ranges


@dataclass(frozen=True, slots=True)
class Port:
    """An input or an output of an engine.

    Attributes:
        name: Its name.
        dtype: The library's name of its dtype, such as ``HALF``.
        shape: Its sizes, -1 for open ones.
        smallest: For an input, the smallest sizes.
        best: The sizes it is to be fastest at.
        largest: The largest sizes.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    smallest: tuple[int, ...] = ()
    best: tuple[int, ...] = ()
    largest: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Built:
    """An engine that was built.

    Attributes:
        engine: Its bytes.
        layers: How many layers of each kind the network had that the library optimized.
        inputs: Its inputs.
        outputs: Its outputs.
        graph_sha256: Of the ONNX file.
        seconds: How long parsing and building took.
    """

    engine: bytes
    layers: dict[str, int]
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    graph_sha256: str
    seconds: float


def build(library: Library, onnx_file: Path, ranges: Ranges, targets: tuple[str, ...]) -> Built:
    """Build an engine.

    Args:
        library: What to build with.
        onnx_file: The model.
        ranges: The sizes to build for, for each input of the file.
        targets: The compute capabilities to build for.

    Raises:
        ExportError: The library cannot start, or does not take the model.
    """
    trt, log = library.module, new_log(library)
    start = time.perf_counter()
    builder = new_builder(library, log)
    typed = 1 << int(trt.NetworkDefinitionCreationFlag.STRONGLY_TYPED)
    network = builder.create_network(typed)
    parser = trt.OnnxParser(network, log)
    if not parser.parse_from_file(str(onnx_file)):
        raise ExportError(_refusal(library, parser, log))
    config = builder.create_builder_config()
    config.clear_flag(trt.BuilderFlag.TF32)
    if library.name == RTX and targets != library.chosen(None):
        _aim(trt, config, targets)
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    if len(inputs) != len(ranges):
        raise ExportError(
            f"the ONNX file has {len(inputs)} inputs and the example {len(ranges)} tensors: "
            "leave out of the example what the model does not read."
        )
    ports = tuple(_input(tensor, axes) for tensor, axes in zip(inputs, ranges, strict=True))
    profile = builder.create_optimization_profile()
    for port in ports:
        profile.set_shape(port.name, port.smallest, port.best, port.largest)
    config.add_optimization_profile(profile)
    kinds = (network.get_layer(index).type.name for index in range(network.num_layers))
    layers = dict(Counter(kinds).most_common())
    plan = builder.build_serialized_network(network, config)
    if plan is None:
        raise ExportError(f"{library.described} cannot build the model ({log.first()}).")
    outputs = [network.get_output(index) for index in range(network.num_outputs)]
    seconds = time.perf_counter() - start
    digest = hashlib.sha256(onnx_file.read_bytes()).hexdigest()
    return Built(bytes(plan), layers, ports, tuple(map(_port, outputs)), digest, seconds)


def _aim(trt: Any, config: Any, targets: tuple[str, ...]) -> None:
    """Say for which compute capabilities to build."""
    config.num_compute_capabilities = len(targets)
    for index, target in enumerate(targets):
        name = f"SM{target.replace('.', '')}"
        if not config.set_compute_capability(getattr(trt.ComputeCapability, name), index):
            raise ExportError(f"the library refuses compute capability {target}.")


def _input(tensor: Any, axes: dict[int, Any]) -> Port:
    """Return an input with the sizes it is built for."""
    shape = tuple(tensor.shape)
    sizes: dict[str, list[int]] = {"smallest": [], "best": [], "largest": []}
    for axis, size in enumerate(shape):
        if size >= 0:
            for list_ in sizes.values():
                list_.append(size)
            continue
        if axis not in axes:
            raise ExportError(
                f"axis {axis} of input {tensor.name} is open in the ONNX file and has no range: "
                "name it in dynamic_shapes with torch.export.Dim(name, min=..., max=...)."
            )
        for which, list_ in sizes.items():
            list_.append(getattr(axes[axis], which))
    made = {which: tuple(list_) for which, list_ in sizes.items()}
    return Port(tensor.name, tensor.dtype.name, shape, **made)


def _port(tensor: Any) -> Port:
    return Port(tensor.name, tensor.dtype.name, tuple(tensor.shape))


def _refusal(library: Library, parser: Any, log: Any) -> str:
    """Return what the parser does not take, with the operator and the node."""
    if not parser.num_errors:
        return f"{library.described} cannot read the model ({log.first()})."
    error = parser.get_error(0)
    operator, node = error.node_operator(), error.node_name()
    if not operator:
        return f"{library.described} cannot read the model ({error.desc()})."
    named = f" at {node}" if node else ""
    return (
        f"{library.described} has no operator {operator} like the one{named} "
        f"({error.code().name.lower()}: {error.desc()}): replace it in the model, or deploy the "
        "ONNX file."
    )
