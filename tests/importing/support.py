"""Small ONNX files, run in onnxruntime and as what they are converted to."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import onnxruntime
import torch
from onnx import TensorProto, helper, numpy_helper

from bnfuse.importing.convert import imported

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from torch import fx

LATEST = 23
FLOAT = np.float32


def numbers(*shape: int, seed: int = 0, dtype: Any = FLOAT) -> Any:
    """Return random numbers of both signs."""
    drawn = np.random.default_rng(seed).standard_normal(shape)
    return (drawn if np.issubdtype(dtype, np.floating) else drawn * 5).astype(dtype)


def ints(*values: int) -> Any:
    """Return whole numbers as a vector."""
    return np.array(values, dtype=np.int64)


@dataclass(frozen=True)
class Case:
    """A file of one node.

    Attributes:
        operator: Its operator.
        inputs: What is given to it at each call.
        constants: What it is given after that, by the file itself; None for what is left out.
        attributes: Its attributes.
        outputs: How many results it has.
        opset: The version of the operators.
        open_batch: Whether the first axis of the inputs is declared open.
        label: What is special about it.
    """

    operator: str
    inputs: Sequence[Any]
    constants: Sequence[Any] = ()
    attributes: dict[str, Any] = field(default_factory=dict)
    outputs: int = 1
    opset: int = 20
    open_batch: bool = True
    label: str = ""

    def __str__(self) -> str:
        facts = [f"{key}={value}" for key, value in self.attributes.items()]
        return " ".join([self.operator, self.label, *facts, f"opset {self.opset}"])

    def proto(self, *, is_constant: bool = False) -> Any:
        """Return the file; with ``is_constant`` it has no inputs, all it is given is its own."""
        given = {f"x{i}": array for i, array in enumerate(self.inputs)}
        own = {f"c{i}": array for i, array in enumerate(self.constants) if array is not None}
        names = [*given, *(f"c{i}" if c is not None else "" for i, c in enumerate(self.constants))]
        outputs = [f"y{index}" for index in range(self.outputs)]
        node = helper.make_node(self.operator, names, outputs, name="node", **self.attributes)
        kept = own | given if is_constant else own
        inputs = [] if is_constant else [self._declared(*pair) for pair in given.items()]
        return model([node], inputs, outputs, kept, self.opset)

    def _declared(self, name: str, array: Any) -> Any:
        shape: list[int | str] = list(array.shape)
        if self.open_batch and shape:
            shape[0] = "batch"
        return value(name, shape, array.dtype)


def value(name: str, shape: Sequence[int | str | None], dtype: Any = FLOAT) -> Any:
    """Return the declaration of an input."""
    return helper.make_tensor_value_info(
        name, helper.np_dtype_to_tensor_dtype(np.dtype(dtype)), shape
    )


def model(
    nodes: Sequence[Any],
    inputs: Sequence[Any],
    outputs: Sequence[str],
    constants: dict[str, Any] | None = None,
    opset: int = 20,
) -> Any:
    """Return a file of some nodes, the types of its results inferred."""
    kept = [numpy_helper.from_array(array, name) for name, array in (constants or {}).items()]
    untyped = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = helper.make_graph(nodes, "graph", inputs, untyped, kept)
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(made, data_prop=True)
    for declared in inferred.graph.output:
        tensor = declared.type.tensor_type
        if not tensor.HasField("shape"):  # onnx cannot tell: as many open axes as the input has
            tensor.elem_type = tensor.elem_type or TensorProto.FLOAT
            for _ in inputs[0].type.tensor_type.shape.dim if inputs else ():
                tensor.shape.dim.add()
            tensor.shape.SetInParent()
    return inferred


def run(proto: Any, inputs: Sequence[Any]) -> list[Any]:
    """Return what onnxruntime computes."""
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        proto.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [given.name for given in session.get_inputs()]
    return list(session.run(None, dict(zip(names, inputs, strict=True))))


def converted(proto: Any, folder: Path) -> fx.GraphModule:
    """Return the module of a file."""
    path = folder / "net.onnx"
    onnx.save(proto, path)
    return imported(path).module


def computed(module: fx.GraphModule, inputs: Sequence[Any]) -> list[Any]:
    """Return what a module computes."""
    with torch.no_grad():
        results = module(*(torch.from_numpy(np.array(array)) for array in inputs))
    several = results if isinstance(results, tuple) else (results,)
    return [tensor.numpy() for tensor in several]


def operations(module: fx.GraphModule) -> list[fx.Node]:
    """Return the nodes of a graph in order, without those that assert the shapes of inputs."""
    left_out: set[fx.Node] = set()
    for node in reversed(module.graph.nodes):
        is_read = any(user not in left_out for user in node.users)
        if node.op not in ("placeholder", "output") and not is_read:
            left_out.add(node)
    return [node for node in module.graph.nodes if node not in left_out]


def check(case: Case, folder: Path) -> fx.GraphModule:
    """Compare a node's conversion with onnxruntime, with inputs and with constants instead."""
    proto = case.proto()
    module = converted(proto, folder)
    assert_same(computed(module, case.inputs), run(proto, case.inputs))
    if case.open_batch and case.inputs and case.inputs[0].ndim:
        thrice = [np.concatenate([array[:1]] * 3) if array.ndim else array for array in case.inputs]
        assert_same(computed(module, thrice), run(proto, thrice))
    constant = case.proto(is_constant=True)
    folded = converted(constant, folder)
    assert_same(computed(folded, ()), run(constant, ()))
    assert {node.op for node in folded.graph.nodes} == {"get_attr", "output"}
    return module


def assert_same(found: Sequence[Any], wanted: Sequence[Any]) -> None:
    """Compare results with their shapes and dtypes."""
    assert len(found) == len(wanted)
    for mine, theirs in zip(found, wanted, strict=True):
        assert mine.dtype == theirs.dtype
        assert mine.shape == theirs.shape
        np.testing.assert_allclose(mine, theirs, rtol=2e-5, atol=2e-6)
