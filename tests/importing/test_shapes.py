"""What is known of the shapes of a file's values, and of what depends on the batch."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import torch
from onnx import helper
from torch import fx

from bnfuse.importing.shapes import Multiple, Type, inferred_types
from tests.importing.support import (
    assert_same,
    computed,
    converted,
    ints,
    model,
    numbers,
    run,
    value,
)

if TYPE_CHECKING:
    from collections.abc import Sequence

OPEN = (None,)


def types(nodes: Sequence[Any], inputs: Sequence[Any], **constants: Any) -> dict[str, Type]:
    """Return the types of the values of a file of some nodes."""
    proto = model(nodes, inputs, [nodes[-1].output[0]], constants)
    return inferred_types(onnx, proto, Path("net.onnx"))


def test_a_batch_survives_a_reshape_and_the_way_back() -> None:
    nodes = [
        helper.make_node("Reshape", ["x", "rows"], ["flat"]),
        helper.make_node("Relu", ["flat"], ["r"]),
        helper.make_node("Reshape", ["r", "back"], ["y"]),
    ]
    found = types(nodes, [value("x", ["batch", 6, 4])], rows=ints(-1, 4), back=ints(-1, 6, 4))
    assert found["flat"].dims == (None, 4)
    assert found["flat"].multiples == (Multiple("x", 6), None)
    assert found["y"].dims == (None, 6, 4)
    assert found["y"].multiples == (Multiple("x", 1), None, None)
    assert found["y"].dtype is torch.float32


def test_what_only_large_batches_fix_is_not_fixed() -> None:
    nodes = [helper.make_node("Slice", ["x", "start", "end"], ["y"])]
    found = types(nodes, [value("x", ["batch", 4])], start=ints(0), end=ints(100))
    assert found["y"].dims == (None, 4)
    assert found["y"].multiples in ((), (None, None))


def test_sizes_made_of_shapes_are_worked_out() -> None:
    nodes = [
        helper.make_node("Shape", ["x"], ["s"]),
        helper.make_node("Gather", ["s", "two"], ["h"]),
        helper.make_node("Mul", ["h", "h"], ["area"]),
        helper.make_node("Concat", ["rest", "area"], ["wanted"], axis=0),
        helper.make_node("Reshape", ["x", "wanted"], ["y"]),
    ]
    x = value("x", ["batch", 4, 3, 3])
    found = types(nodes, [x], two=ints(2), rest=ints(0, -1))
    assert found["y"].dims == (None, 4, 9)


def test_sizes_of_two_batches_are_told_apart() -> None:
    nodes = [
        helper.make_node("Flatten", ["a"], ["fa"], axis=0),
        helper.make_node("Reshape", ["a", "rows"], ["ra"]),
        helper.make_node("Reshape", ["b", "rows"], ["rb"]),
        helper.make_node("MatMul", ["ra", "tb"], ["y"]),
    ]
    nodes.insert(3, helper.make_node("Transpose", ["rb"], ["tb"]))
    inputs = [value("a", ["n", 2, 3]), value("b", ["m", 2, 3])]
    found = types(nodes, inputs, rows=ints(-1, 6))
    assert found["y"].multiples == (Multiple("a", 1), Multiple("b", 1))
    assert found["fa"].dims == (1, None)
    assert found["fa"].multiples == (None, Multiple("a", 6))


def test_inputs_of_one_batch_have_the_same_size() -> None:
    nodes = [helper.make_node("Reshape", ["b", "rows"], ["y"])]
    inputs = [value("a", ["n", 2]), value("b", ["n", 2, 3])]
    assert types(nodes, inputs, rows=ints(-1, 6))["y"].multiples[0] == Multiple("a", 1)


def test_other_open_sizes_stay_unknown() -> None:
    nodes = [helper.make_node("Flatten", ["x"], ["y"])]
    found = types(nodes, [value("x", [2, 3, "h", "w"])])
    assert found["x"].dims == (2, 3, None, None)
    assert found["y"].dims == (2, None)
    assert found["y"].multiples == ()


def test_a_reshape_says_what_the_file_fixes(tmp_path: Path) -> None:
    """So bnfuse can see that the way back undoes the way there."""
    nodes = [
        helper.make_node("Reshape", ["x", "rows"], ["flat"]),
        helper.make_node("Reshape", ["flat", "back"], ["y"]),
    ]
    proto = model(
        nodes, [value("x", ["batch", 6, 4])], ["y"], {"rows": ints(-1, 4), "back": ints(-1, 6, 4)}
    )
    module = converted(proto, tmp_path)
    shapes = [node.args[1] for node in module.graph.nodes if node.target is torch.reshape]
    assert shapes[0] == (-1, 4)
    batch = shapes[1][0] if isinstance(shapes[1], tuple) else None
    assert isinstance(batch, fx.Node)
    assert (batch.target, str(batch.args[0])) == ("size", "x")
    for count in (1, 3):
        x = numbers(count, 6, 4)
        assert_same(computed(module, [x]), run(proto, [x]))


def test_a_batch_norm_on_rows_leaves_no_reshape(tmp_path: Path) -> None:
    """LeViT: pixels made rows, a linear layer, the rows of all images, a batch norm, and back."""
    import bnfuse

    nodes = [
        helper.make_node("Conv", ["x", "k"], ["f"]),
        helper.make_node("Reshape", ["f", "pixels"], ["p"]),
        helper.make_node("Transpose", ["p"], ["t"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["t", "w"], ["a"]),
        helper.make_node("Reshape", ["a", "rows"], ["b"]),
        helper.make_node("BatchNormalization", ["b", "s", "s", "s", "v"], ["c"], name="norm"),
        helper.make_node("Reshape", ["c", "back"], ["d"]),
        helper.make_node("Add", ["d", "d"], ["y"]),
    ]
    kept = {"w": numbers(4, 5), "rows": ints(-1, 5), "back": ints(-1, 6, 5)}
    kept |= {"s": numbers(5), "v": numbers(5) ** 2 + 1}
    kept |= {"k": numbers(4, 3, 1, 1), "pixels": ints(-1, 4, 6)}
    proto = model(nodes, [value("x", ["batch", 3, 2, 3])], ["y"], kept)
    fused = bnfuse.optimize(converted(proto, tmp_path), (torch.randn(2, 3, 2, 3),))
    assert isinstance(fused, fx.GraphModule)
    assert [row.name for row in bnfuse.report(fused).folded] == ["norm"]
    assert len([node for node in fused.graph.nodes if node.target is torch.reshape]) == 1


def test_a_batch_norm_before_flattened_pixels_folds(tmp_path: Path) -> None:
    """NextViT: a batch norm, pixels made a row, and a linear layer on the channels."""
    import bnfuse

    nodes = [
        helper.make_node("Conv", ["x", "k"], ["f"]),
        helper.make_node("Relu", ["f"], ["r"]),
        helper.make_node("BatchNormalization", ["r", "s", "s", "s", "v"], ["a"], name="norm"),
        helper.make_node("Reshape", ["a", "row"], ["b"]),
        helper.make_node("Transpose", ["b"], ["c"], perm=[0, 2, 1]),
        helper.make_node("MatMul", ["c", "w"], ["y"]),
    ]
    kept = {"w": numbers(4, 5), "k": numbers(4, 3, 1, 1), "row": ints(-1, 4, 36)}
    kept |= {"s": numbers(4), "v": numbers(4) ** 2 + 1}
    proto = model(nodes, [value("x", ["batch", 3, 6, 6])], ["y"], kept)
    module, image = converted(proto, tmp_path), torch.randn(2, 3, 6, 6)
    assert [row.name for row in bnfuse.explain(module, (image,)).folded] == ["norm"]
