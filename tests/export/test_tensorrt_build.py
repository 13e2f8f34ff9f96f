"""Building engines with the library that needs no GPU."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import onnx
import pytest
from onnx import TensorProto, helper

from bnfuse.errors import ExportError
from bnfuse.export.tensorrt_build import Built, Port, build
from bnfuse.export.tensorrt_library import Library
from bnfuse.export.tensorrt_ranges import Range

if TYPE_CHECKING:
    from pathlib import Path

RTX = pytest.importorskip("tensorrt_rtx", reason="tensorrt_rtx is not installed")
LIBRARY = Library("tensorrt_rtx", RTX)
DEFAULT = LIBRARY.chosen(None)
BATCH = ({0: Range(1, 2, 8)},)
AGAIN = """
import hashlib, sys
from pathlib import Path
from bnfuse.export.tensorrt_build import build
from bnfuse.export.tensorrt_library import find_library
from bnfuse.export.tensorrt_ranges import Range
library = find_library("tensorrt_rtx")
made = build(library, Path(sys.argv[1]), ({0: Range(1, 2, 8)},), library.chosen(None))
print(hashlib.sha256(made.engine).hexdigest())
"""


def a_file(folder: Path, operator: str, dtype: int = TensorProto.FLOAT, **attributes: Any) -> Path:
    """Write a file with one node between an input and an output of open batch size."""
    x, y = (helper.make_tensor_value_info(name, dtype, ["b", 3, 3]) for name in "xy")
    node = helper.make_node(operator, ["x"], ["y"], name="block.0/node", **attributes)
    graph = helper.make_graph([node], "g", [x], [y])
    path = folder / "net.onnx"
    opsets = [helper.make_opsetid("", 20)]
    onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)
    return path


def built(path: Path, targets: tuple[str, ...] = DEFAULT) -> Built:
    """Build with the default range."""
    return build(LIBRARY, path, BATCH, targets)


def test_engine_with_what_went_into_it(tmp_path: Path) -> None:
    made = built(a_file(tmp_path, "Relu", TensorProto.FLOAT16))
    assert made.engine[:4] == b"vtrt"
    assert made.layers == {"ACTIVATION": 1}
    sizes = {"smallest": (1, 3, 3), "best": (2, 3, 3), "largest": (8, 3, 3)}
    assert made.inputs == (Port("x", "HALF", (-1, 3, 3), **sizes),)
    assert made.outputs == (Port("y", "HALF", (-1, 3, 3)),)
    assert len(made.graph_sha256) == 64
    assert made.seconds > 0


def test_same_bytes_again_and_in_another_process(tmp_path: Path) -> None:
    path = a_file(tmp_path, "Relu")
    first = built(path)
    assert built(path).engine == first.engine
    command = [sys.executable, "-W", "ignore", "-c", AGAIN, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == hashlib.sha256(first.engine).hexdigest()
    assert built(a_file(tmp_path, "Sigmoid")).engine != first.engine


def test_other_targets_make_another_engine(tmp_path: Path) -> None:
    path = a_file(tmp_path, "Relu")
    assert built(path, ("8.6",)).engine != built(path).engine
    assert built(path, ("7.5",)).engine


def test_float32_is_not_tf32(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cleared = []
    original = RTX.IBuilderConfig.clear_flag

    def clear(config: Any, flag: Any) -> None:
        cleared.append(flag)
        original(config, flag)

    monkeypatch.setattr(RTX.IBuilderConfig, "clear_flag", clear)
    built(a_file(tmp_path, "Relu"))
    assert cleared == [RTX.BuilderFlag.TF32]


def test_unsupported_operator_is_named(tmp_path: Path) -> None:
    pattern = (
        r"^tensorrt_rtx \S+ has no operator Det like the one at block\.0/node "
        r"\(unsupported_node: .*\): replace it in the model, or deploy the ONNX file\.$"
    )
    with pytest.raises(ExportError, match=pattern):
        built(a_file(tmp_path, "Det"))


def test_file_that_is_none(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"not a model")
    with pytest.raises(ExportError, match="cannot read the model"):
        built(path)


def test_open_axis_without_a_range(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match=r"axis 0 of input x is open .* in dynamic_shapes"):
        build(LIBRARY, a_file(tmp_path, "Relu"), ({},), DEFAULT)


def test_other_number_of_inputs(tmp_path: Path) -> None:
    with pytest.raises(ExportError, match="has 1 inputs and the example 2 tensors"):
        build(LIBRARY, a_file(tmp_path, "Relu"), ({}, {}), DEFAULT)


def test_build_that_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A failed build returns None and says why in the log alone."""
    monkeypatch.setattr(RTX.IBuilderConfig, "add_optimization_profile", lambda *_: 0)
    pattern = r"cannot build the model \(.*no optimization profile.*\)\.$"
    with pytest.raises(ExportError, match=pattern):
        built(a_file(tmp_path, "Relu"))


def test_library_has_what_runs_an_engine() -> None:
    """No engine can be run without a GPU; that the names are right can be seen without one."""
    used = {
        RTX.Runtime: ("deserialize_cuda_engine",),
        RTX.ICudaEngine: ("create_execution_context",),
        RTX.IExecutionContext: (
            "execute_async_v3",
            "get_tensor_shape",
            "set_input_shape",
            "set_tensor_address",
        ),
    }
    missing = [name for owner, names in used.items() for name in names if not hasattr(owner, name)]
    assert missing == []
