"""What tests of exported files need."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from onnx import TensorProto, helper

if TYPE_CHECKING:
    from pathlib import Path


def a_proto(**metadata: str) -> Any:
    """Return the smallest ONNX model."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    proto = helper.make_model(graph)
    helper.set_model_props(proto, metadata)
    return proto


def contents(folder: Path) -> dict[str, bytes]:
    """Return the files of a folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
