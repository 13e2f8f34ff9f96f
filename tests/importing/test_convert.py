"""Whole files as modules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch
from onnx import helper
from torch import fx, nn

import bnfuse
from bnfuse.errors import RequestError
from bnfuse.importing import load_onnx
from tests.importing.support import (
    Case,
    assert_same,
    computed,
    converted,
    ints,
    model,
    numbers,
    operations,
    run,
    value,
)
from tests.support import sequential

if TYPE_CHECKING:
    from pathlib import Path

X = numbers(2, 3, 8, 8)


def exported(net: nn.Module, folder: Path) -> Path:
    """Return the file that torch.onnx makes of a network."""
    path = folder / "net.onnx"
    batch = ({0: torch.export.Dim("batch")},)
    program = torch.onnx.export(
        net.float(), (torch.from_numpy(X),), dynamo=True, dynamic_shapes=batch, verbose=False
    )
    assert program is not None
    program.save(path)
    return path


def test_a_network_of_torch_onnx_comes_back_with_its_names(tmp_path: Path) -> None:
    net = sequential(
        nn.ReLU(), nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.Flatten(), nn.Linear(144, 5)
    )
    path = exported(net, tmp_path)
    found = load_onnx(path)
    layers = dict(found.named_children())
    assert {name: type(layer) for name, layer in layers.items()} == {
        "1": nn.BatchNorm2d, "2": nn.Conv2d, "4": nn.Linear,
    }  # fmt: skip
    x = torch.from_numpy(X)
    torch.testing.assert_close(found(x), net.float()(x), rtol=1e-5, atol=1e-5)
    report = bnfuse.explain(found)
    assert [(row.name, row.into) for row in report.folded] == [("1", "2")]
    assert report.model == "net"


def test_the_module_is_in_eval_mode_and_without_gradients(tmp_path: Path) -> None:
    found = converted(Case("BatchNormalization", [X], [numbers(3) ** 2] * 4).proto(), tmp_path)
    assert isinstance(found, fx.GraphModule)
    assert not any(module.training for module in found.modules())
    assert not any(tensor.requires_grad for tensor in found.parameters())


def test_several_outputs_come_in_order(tmp_path: Path) -> None:
    nodes = [helper.make_node("Relu", ["x"], ["a"]), helper.make_node("Neg", ["x"], ["b"])]
    proto = model(nodes, [value("x", X.shape)], ["b", "x", "a"])
    found = computed(converted(proto, tmp_path), [X])
    assert_same(found, run(proto, [X]))
    assert len(found) == 3


def test_outputs_that_depend_on_no_input(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["open"]),
        helper.make_node("Neg", ["c"], ["known"]),
    ]
    proto = model(nodes, [value("x", ["n", 3])], ["open", "known", "c"], {"c": numbers(2)})
    for count in (1, 4):
        x = numbers(count, 3)
        assert_same(computed(converted(proto, tmp_path), [x]), run(proto, [x]))


def test_what_nothing_reads_is_left_out(tmp_path: Path) -> None:
    nodes = [helper.make_node("Exp", ["x"], ["dead"]), helper.make_node("Neg", ["x"], ["y"])]
    proto = model(nodes, [value("x", ["n", 3]), value("unused", [2])], ["y"])
    module = converted(proto, tmp_path)
    assert [node.op for node in operations(module)] == [
        "placeholder", "placeholder", "call_function", "output",
    ]  # fmt: skip
    assert_same(computed(module, [numbers(2, 3), numbers(2)]), [-numbers(2, 3)])


def test_results_that_are_left_out(tmp_path: Path) -> None:
    node = helper.make_node("TopK", ["x", "k"], ["values", "places"])
    proto = model([node], [value("x", ["n", 5])], ["places"], {"k": ints(2)})
    x = numbers(3, 5)
    assert_same(computed(converted(proto, tmp_path), [x]), run(proto, [x]))
    dropped = helper.make_node("Dropout", ["x"], ["y", ""])
    proto = model([dropped], [value("x", ["n", 5])], ["y"])
    assert_same(computed(converted(proto, tmp_path), [x]), [x])


NAMES = ('x"); raise SystemExit("', "def", "self", "a b", "a.b", "forward")


@pytest.mark.parametrize("name", NAMES)
def test_names_of_the_file_are_no_source_text(name: str, tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Add", [name, f"w{name}"], ["a"], name=name),
        helper.make_node("MatMul", ["a", f"{name}.weight"], [f"y{name}"], name=f"{name}2"),
    ]
    kept: dict[str, Any] = {f"w{name}": numbers(3), f"{name}.weight": numbers(3, 3)}
    proto = model(nodes, [value(name, ["n", 3])], [f"y{name}"], kept)
    module = converted(proto, tmp_path)
    x = numbers(2, 3)
    assert_same(computed(module, [x]), run(proto, [x]))


def test_other_shapes_than_the_declared_are_refused(tmp_path: Path) -> None:
    module = converted(Case("Relu", [X]).proto(), tmp_path)
    assert module(torch.zeros(5, 3, 8, 8)).shape == (5, 3, 8, 8)
    for shape in ((1, 3, 8, 9), (3, 8, 8), (1, 1, 3, 8, 8)):
        with pytest.raises(AssertionError, match=r"the input 'x0' has the shape \?x3x8x8"):
            module(torch.zeros(shape))


def test_inputs_whose_names_become_the_same(tmp_path: Path) -> None:
    node = helper.make_node("Sub", ["a b", "a_b"], ["y"])
    proto = model([node], [value("a b", [3]), value("a_b", [3])], ["y"])
    given = [numbers(3), numbers(3, seed=1)]
    assert_same(computed(converted(proto, tmp_path), given), run(proto, given))


def test_what_pytorch_refuses_is_said_with_the_node(tmp_path: Path) -> None:
    node = helper.make_node("Reshape", ["c", "wanted"], ["y"], name="odd")
    out = helper.make_tensor_value_info("y", 1, [7])
    kept = [onnx.numpy_helper.from_array(a, n) for n, a in (("c", numbers(6)), ("wanted", ints(7)))]
    graph = helper.make_graph([node], "g", [], [out], kept)
    opsets = [helper.make_opsetid("", 20)]
    with pytest.raises(RequestError, match=r"Reshape of the node 'odd': RuntimeError: shape '\[7"):
        converted(helper.make_model(graph, opset_imports=opsets, ir_version=10), tmp_path)
