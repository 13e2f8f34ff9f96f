"""Reading files that may be damaged, hostile, or need what there is no rule for."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper

from bnfuse.errors import RequestError
from bnfuse.importing.convert import load_onnx
from bnfuse.importing.file import read_file
from bnfuse.importing.operators import OPERATORS
from tests.importing.support import Case, model, numbers, value

if TYPE_CHECKING:
    from pathlib import Path

ADD = helper.make_node("Add", ["x", "w"], ["y"], name="add")


def plain(opset: int = 20) -> Any:
    """Return a file that can be read."""
    return model([ADD], [value("x", ["batch", 4])], ["y"], {"w": numbers(2000, 4)[:1]}, opset)


def refusal(path: Path) -> str:
    """Return the sentence with which a file is refused."""
    with pytest.raises(RequestError) as caught:
        read_file(path, OPERATORS)
    message = str(caught.value)
    assert "\n" not in message
    assert message.endswith(".")
    return message.replace(str(path), "FILE")


def saved(proto: Any, folder: Path) -> Path:
    """Write a file."""
    path = folder / "net.onnx"
    path.write_bytes(proto.SerializeToString())
    return path


def test_reads_types(tmp_path: Path) -> None:
    found = read_file(saved(plain(), tmp_path), OPERATORS)
    assert found.opset == 20
    given = found.inputs["x"]
    assert (given.dtype, given.dims, given.names) == (torch.float32, (None, 4), ("batch", ""))
    assert list(found.inputs) == ["x"]


def test_what_the_file_claims_about_values_inside_is_not_believed(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Shape", ["a"], ["y"])]
    proto = model(nodes, [value("x", ["batch", 4])], ["y"])
    del proto.graph.value_info[:]
    proto.graph.value_info.append(value("a", [7, 7]))
    assert read_file(saved(proto, tmp_path), OPERATORS).types["a"].dims == (None, 4)


def test_large_constants_do_not_hide_shapes(tmp_path: Path) -> None:
    proto = Case("MatMul", [numbers(2, 2000)], [numbers(2000, 3)]).proto()
    found = read_file(saved(proto, tmp_path), OPERATORS)
    assert found.types["c0"].dims == (2000, 3)
    assert list(found.inputs) == ["x0"]


def test_functions_of_the_file_are_written_out(tmp_path: Path) -> None:
    body = [helper.make_node("Relu", ["a"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    function = helper.make_function("mine", "Block", ["a"], ["c"], body, plain().opset_import)
    node = helper.make_node("Block", ["x"], ["y"], domain="mine")
    graph = helper.make_graph([node], "g", [value("x", [2])], [value("y", [2])])
    imports = [*plain().opset_import, helper.make_opsetid("mine", 1)]
    proto = helper.make_model(graph, functions=[function], opset_imports=imports, ir_version=10)
    found = read_file(saved(proto, tmp_path), OPERATORS)
    assert [node.op_type for node in found.proto.graph.node] == ["Relu", "Neg"]


def test_old_files_list_constants_among_the_inputs(tmp_path: Path) -> None:
    proto = plain(13)
    proto.graph.input.append(value("w", [1, 4]))
    proto.ir_version = 3
    assert list(read_file(saved(proto, tmp_path), OPERATORS).inputs) == ["x"]
    proto.ir_version = 7
    assert refusal(saved(proto, tmp_path)).startswith("the input 'w' of FILE has a default value")


def test_no_file(tmp_path: Path) -> None:
    assert refusal(tmp_path / "net.onnx") == "there is no file FILE: check the path."


@pytest.mark.parametrize("data", [b"", b"\x00" * 40, b"no protobuf at all", b"PK\x03\x04"])
def test_other_files(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(data)
    assert refusal(path).startswith(("FILE is no ONNX file", "FILE has no operators"))


def test_a_file_cut_off(tmp_path: Path) -> None:
    path = saved(plain(), tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    assert "FILE" in refusal(path)


@pytest.mark.parametrize("seed", range(4))
def test_damaged_files_are_read_or_refused(seed: int, tmp_path: Path) -> None:
    """Bytes are changed or cut off; whatever is read from that, nothing else is raised."""
    case = Case("Conv", [numbers(1, 2, 4, 4)], [numbers(2, 2, 3, 3), numbers(2)], {"pads": [1] * 4})
    whole, path = case.proto().SerializeToString(), tmp_path / "net.onnx"
    chance = random.Random(seed)
    refusals: list[str] = []
    for _ in range(75):
        data = bytearray(whole)
        for _ in range(chance.choice([1, 2, 5])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data[: chance.choice([len(data), chance.randrange(len(data))])])
        try:
            load_onnx(path)
        except RequestError as error:
            refusals.append(str(error))
    assert len(refusals) > 25
    assert not [message for message in refusals if "\n" in message]


@pytest.mark.parametrize("opset", [1, 12, 24, 99])
def test_other_opsets(opset: int, tmp_path: Path) -> None:
    proto = plain()
    proto.opset_import[0].version = opset
    assert refusal(saved(proto, tmp_path)).startswith(f"FILE is written for opset {opset}, and")


def test_an_operator_without_a_rule(tmp_path: Path) -> None:
    proto = plain()
    proto.graph.node[0].CopyFrom(helper.make_node("Det", ["x"], ["y"], name="/a/Det"))
    wanted = "the node '/a/Det' of FILE is the operator Det, which bnfuse does not convert: "
    assert refusal(saved(proto, tmp_path)).startswith(wanted)


def test_a_node_without_a_name_is_named_by_its_result(tmp_path: Path) -> None:
    proto = plain()
    proto.graph.node[0].CopyFrom(helper.make_node("QuantizeLinear", ["x", "w"], ["y"]))
    wanted = "the node 'y' of FILE is the operator QuantizeLinear, which"
    assert refusal(saved(proto, tmp_path)).startswith(wanted)


def test_an_operator_of_another_domain(tmp_path: Path) -> None:
    proto = plain()
    node = helper.make_node("FusedConv", ["x", "w"], ["y"], name="f", domain="com.microsoft")
    proto.graph.node[0].CopyFrom(node)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    wanted = "the node 'f' of FILE is the operator FusedConv of com.microsoft, and bnfuse"
    assert refusal(saved(proto, tmp_path)).startswith(wanted)


def test_control_flow(tmp_path: Path) -> None:
    branch = helper.make_graph([helper.make_node("Neg", ["x"], ["z"])], "b", [], [value("z", [4])])
    node = helper.make_node("If", ["c"], ["y"], name="if", then_branch=branch, else_branch=branch)
    inputs = [value("x", [4]), value("c", [], bool)]
    proto = model([node], inputs, ["y"])
    wanted = "the node 'if' of FILE is the operator If with graphs inside, and bnfuse"
    assert refusal(saved(proto, tmp_path)).startswith(wanted)


def test_inputs_that_are_no_tensors(tmp_path: Path) -> None:
    proto = plain()
    held = helper.make_tensor_sequence_value_info("many", TensorProto.FLOAT, [2])
    proto.graph.input.append(held)
    assert refusal(saved(proto, tmp_path)).startswith("the input 'many' of FILE is no tensor")


def test_sparse_tensors(tmp_path: Path) -> None:
    proto = plain()
    values = helper.make_tensor("s", TensorProto.FLOAT, [1], [1.0])
    indices = helper.make_tensor("i", TensorProto.INT64, [1], [0])
    proto.graph.sparse_initializer.append(helper.make_sparse_tensor(values, indices, [4]))
    assert refusal(saved(proto, tmp_path)).startswith("FILE has sparse tensors")


def test_nodes_in_the_wrong_order(tmp_path: Path) -> None:
    nodes = [helper.make_node("Neg", ["a"], ["y"]), helper.make_node("Relu", ["x"], ["a"])]
    graph = helper.make_graph(nodes, "g", [value("x", [2])], [value("y", [2])])
    proto = helper.make_model(graph, opset_imports=plain().opset_import, ir_version=10)
    assert refusal(saved(proto, tmp_path)).startswith("FILE is not valid (")


def outside(folder: Path) -> Path:
    """Write a file whose weights stand beside it."""
    proto, path = plain(), folder / "net.onnx"
    onnx.save(proto, path, save_as_external_data=True, location="net.data", size_threshold=0)
    return path


def test_weights_beside_the_file(tmp_path: Path) -> None:
    path = outside(tmp_path)
    found = read_file(path, OPERATORS)
    assert found.proto.graph.initializer[0].raw_data == numbers(2000, 4)[:1].tobytes()


def test_weights_that_are_missing(tmp_path: Path) -> None:
    path = outside(tmp_path)
    (tmp_path / "net.data").unlink()
    message = refusal(path)
    assert message.startswith("FILE is not valid (")
    assert "net.data" in message


def test_weights_cut_off(tmp_path: Path) -> None:
    path = outside(tmp_path)
    (tmp_path / "net.data").write_bytes(b"1234")
    assert refusal(path).startswith("FILE is not valid (")


@pytest.mark.parametrize("where", ["../secret.data", "{folder}/secret.data", "link.data"])
def test_weights_outside_the_folder(where: str, tmp_path: Path) -> None:
    folder = tmp_path / "inner"
    folder.mkdir()
    secret = tmp_path / "secret.data"
    secret.write_bytes(numbers(1, 4).tobytes())
    (folder / "link.data").symlink_to(secret)
    path = outside(folder)
    proto = onnx.load(path, load_external_data=False)
    entries = proto.graph.initializer[0].external_data
    next(e for e in entries if e.key == "location").value = where.format(folder=tmp_path)
    path.write_bytes(proto.SerializeToString())
    assert refusal(path).startswith("FILE is not valid (")


def test_sizes_that_overflow(tmp_path: Path) -> None:
    proto = plain()
    proto.graph.initializer[0].dims[:] = [2**40, 2**40]
    with pytest.raises(RequestError):
        load_onnx(saved(proto, tmp_path))
