"""Targets of reshapes that are known but for one size."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

import bnfuse
from bnfuse.export.onnx_shapes import settle_reshapes
from tests.support import sequential

if TYPE_CHECKING:
    from pathlib import Path

    from torch import Tensor

X = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))


class Heads(nn.Module):
    """A model that reshapes by sizes it asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 1), nn.GroupNorm(2, 8)

    def forward(self, x: Tensor) -> Tensor:
        x = self.norm(self.conv(x))
        n, c, h, w = x.shape
        return x.reshape(n, 2, c // 2, h * w).transpose(2, 3).reshape(n * 2, h * w, c // 2)


def reshaping(sizes: list[int | str], from_shape: bool = True) -> Any:
    """Return a model of one reshape, whose target is the shape of another input."""
    x, like = (helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("x", "like"))
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, sizes)
    target = helper.make_tensor("target", TensorProto.INT64, [1], [-1])
    made = [helper.make_node("Reshape", ["x", "s" if from_shape else "target"], ["y"])]
    if from_shape:
        made.insert(0, helper.make_node("Shape", ["like"], ["s"]))
    graph = helper.make_graph(made, "g", [x, like], [y], [target])
    return onnx_ir.serde.deserialize_model(helper.make_model(graph))


def targets(model: Any) -> list[Any]:
    """Return the constant targets of the reshapes, None for a computed one."""
    found = [node.inputs[1].const_value for node in model.graph if node.op_type == "Reshape"]
    return [None if value is None else value.numpy().tolist() for value in found]


@pytest.mark.parametrize(
    ("sizes", "wanted"),
    [
        (["batch", 8, 49], [-1, 8, 49]),
        ([2, "n*8"], [2, -1]),
        ([2, 3], [2, 3]),
        (["batch"], [-1]),
        (["batch", "height"], None),
        (["batch", 0], None),
    ],
)
def test_one_open_size_is_left_to_the_runtime(
    sizes: list[int | str], wanted: list[int] | None
) -> None:
    model = reshaping(sizes)
    settle_reshapes(model)
    assert targets(model) == [wanted]
    settle_reshapes(model)
    assert targets(model) == [wanted]


def test_target_that_is_the_shape_of_another_value() -> None:
    model = reshaping(["a", "b"])
    like = model.graph.inputs[1]
    like.shape = onnx_ir.Shape(["batch", 8])
    settle_reshapes(model)
    assert targets(model) == [[-1, 8]]
    part = reshaping(["a", "b"])
    part.graph.inputs[1].shape = onnx_ir.Shape(["batch", 8, 3])
    part.graph[0].attributes["end"] = onnx_ir.AttrInt64("end", 2)
    settle_reshapes(part)
    assert targets(part) == [[-1, 8]]


SIZES = [("Shape", ["like"], "s"), ("Slice", ["s", "zero", "two"], "head")]


@pytest.mark.parametrize(
    ("made", "wanted"),
    [
        ([*SIZES, ("Concat", ["head", "eight"], "t")], [-1, 4, 8]),
        ([*SIZES, ("Slice", ["s", "two", "most"], "t")], [5, 6]),
        ([("Shape", ["like"], "s"), ("Slice", ["s", "zero", "most"], "t")], [-1, 4, 5, 6]),
        ([("Shape", ["like"], "s"), ("Slice", ["s", "open", "most"], "t")], [6]),
        ([*SIZES, ("Concat", ["head", "open"], "t")], None),
        ([*SIZES, ("Concat", ["head", "zero"], "t")], None),
        ([*SIZES, ("Slice", ["s", "zero", "two", "zero", "two"], "t")], None),
        ([*SIZES, ("Slice", ["s", "zero", "head"], "t")], None),
        ([("Shape", ["x"], "s"), ("Concat", ["s", "eight"], "t")], None),
        ([("Shape", ["like"], "s"), ("Abs", ["s"], "t")], None),
    ],
)
def test_sizes_are_followed(
    made: list[tuple[str, list[str], str]], wanted: list[int] | None
) -> None:
    value = helper.make_tensor_value_info
    constants = {"zero": 0, "two": 2, "eight": 8, "open": -1, "most": 2**63 - 1}
    nodes = [helper.make_node(op, given, [result]) for op, given, result in made]
    graph = helper.make_graph(
        [*nodes, helper.make_node("Reshape", ["x", "t"], ["y"])],
        "g",
        [value("x", TensorProto.FLOAT, None), value("like", TensorProto.FLOAT, ["n", 4, 5, 6])],
        [value("y", TensorProto.FLOAT, None)],
        [helper.make_tensor(n, TensorProto.INT64, [1], [v]) for n, v in constants.items()],
    )
    model = onnx_ir.serde.deserialize_model(helper.make_model(graph))
    settle_reshapes(model)
    assert targets(model) == [wanted]


def test_constant_target_stays() -> None:
    model = reshaping(["batch"], from_shape=False)
    settle_reshapes(model)
    assert targets(model) == [[-1]]
    assert list(model.graph.initializers) == ["target"]


def test_name_that_is_taken_stays() -> None:
    model = reshaping(["batch", 8])
    model.graph.initializers["target"].name = "y_target"
    settle_reshapes(model)
    assert targets(model) == [None]


def test_file_computes_no_sizes(tmp_path: Path) -> None:
    model = Heads().eval()
    done = bnfuse.export_onnx(model, tmp_path / "net.onnx", (X,))
    assert done.dynamic_batch
    assert "Shape" not in done.nodes
    assert done.verification is not None
    assert done.verification.passed
    made = torch.onnx.export(
        model, (X,), dynamo=True, dynamic_shapes=({0: "batch"},), verbose=False
    )
    assert made is not None
    assert "Shape" in {node.op_type for node in made.model.graph}


def test_batch_of_none_still_runs(tmp_path: Path) -> None:
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten()).float()
    path = tmp_path / "net.onnx"
    bnfuse.export_onnx(model, path, (X,))
    onnx.checker.check_model(path, full_check=True)
    from bnfuse.export.runtime import OnnxSession

    assert OnnxSession(path).run(((X[:0],), {}))[0].shape == (0, 144)
