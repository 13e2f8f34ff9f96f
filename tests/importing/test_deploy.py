"""From a file to an optimized file: what stays as it was, and what keeps one from being written."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
import pytest
import torch
from onnx import helper

from bnfuse.errors import BnfuseError, ExportError, RequestError
from bnfuse.export.stored_report import read_report
from bnfuse.importing import convert, optimize_onnx
from bnfuse.importing.operators import OPERATORS
from tests.export.support import contents
from tests.importing.support import assert_same, model, numbers, run, value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bnfuse.importing.site import Operand, Site

IMAGE = numbers(2, 3, 6, 6)


def network(shape: Sequence[int | str], opset: int = 20, dtype: Any = np.float32) -> Any:
    """Return a file with a batch norm before a convolution and one behind it."""
    statistics = [numbers(3, seed=s).astype(dtype) for s in (1, 2, 3)]
    before = {f"norm.{i}": array for i, array in enumerate((*statistics, statistics[0] ** 2 + 1))}
    after = {f"last.{i}": array for i, array in enumerate((*statistics, statistics[1] ** 2 + 1))}
    nodes = [
        helper.make_node("BatchNormalization", ["the image", *before], ["a"], name="/norm/BN"),
        helper.make_node("Conv", ["a", "conv.weight"], ["b"], name="/conv/Conv"),
        helper.make_node("BatchNormalization", ["b", *after], ["c"], name="/last/BN"),
        helper.make_node("Relu", ["c"], ["the features"], name="relu"),
    ]
    kept = before | after | {"conv.weight": numbers(3, 3, 3, 3).astype(dtype)}
    return model(nodes, [value("the image", shape, dtype)], ["the features"], kept, opset)


def saved(proto: Any, folder: Path, name: str = "net.onnx") -> Path:
    """Write a file."""
    path = folder / name
    path.write_bytes(proto.SerializeToString())
    return path


def operators(path: Path) -> list[str]:
    """Return the operators of a file in order."""
    return [node.op_type for node in onnx.load(path).graph.node]


def face(path: Path) -> list[tuple[str, int, list[Any]]]:
    """Return what a file looks like from outside."""
    graph = onnx.load(path).graph
    types = [(v.name, v.type.tensor_type) for v in (*graph.input, *graph.output)]
    return [
        (name, t.elem_type, [dim.dim_param or dim.dim_value for dim in t.shape.dim])
        for name, t in types
    ]


def test_the_result_looks_the_same_from_outside_and_computes_the_same(tmp_path: Path) -> None:
    proto = network(["images", 3, 6, 6])
    helper.set_model_props(proto, {"classes": "cat, dog", "bnfuse.version": "a lie"})
    source, target = saved(proto, tmp_path), tmp_path / "out.onnx"
    done = optimize_onnx(source, target)
    assert operators(target) == ["Conv", "Relu"]
    assert [(row.name, row.into) for row in done.report.folded] == [
        ("norm.BN", "conv"), ("last.BN", "conv"),
    ]  # fmt: skip
    assert face(target) == face(source)
    told = {entry.key: entry.value for entry in onnx.load(target).metadata_props}
    assert told["classes"] == "cat, dog"
    assert told["bnfuse.version"] != "a lie"
    assert read_report(target).folded == done.report.folded
    assert done.verification is not None
    assert "graph of net.onnx in float64" in done.verification.headline
    assert len(done.verification.outputs) == 3  # at the example's batch, 1 and 3
    for x in (IMAGE, IMAGE[:1]):
        assert_same(run(onnx.load(target), [x]), run(proto, [x]))


@pytest.mark.parametrize(("opset", "written"), [(13, 18), (18, 18), (20, 20), (22, 22)])
def test_the_opset_stays_or_becomes_the_oldest_there_is(
    opset: int, written: int, tmp_path: Path
) -> None:
    source = saved(network([2, 3, 6, 6], opset), tmp_path)
    done = optimize_onnx(source, tmp_path / "out.onnx", verify=False)
    assert done.opset == written
    assert done.verification is None


def test_open_sizes_other_than_the_batch_stay_open(tmp_path: Path) -> None:
    proto = network(["n", 3, "height", ""])
    del proto.graph.input[0].type.tensor_type.shape.dim[3:]
    proto.graph.input[0].type.tensor_type.shape.dim.add()  # open and without a name
    source, target = saved(proto, tmp_path), tmp_path / "out.onnx"
    with pytest.raises(RequestError, match="leaves sizes of its input 'the image' open"):
        optimize_onnx(source, target)
    optimize_onnx(source, target, (torch.from_numpy(IMAGE),))
    assert face(target)[0][2][:3] == ["n", 3, "height"]
    assert isinstance(face(target)[0][2][3], str)
    x = numbers(1, 3, 9, 8)
    assert_same(run(onnx.load(target), [x]), run(proto, [x]))


def test_several_inputs_with_names_that_are_no_identifiers(tmp_path: Path) -> None:
    nodes = [
        helper.make_node("Sub", ["a b", "a_b"], ["c"], name="difference"),
        helper.make_node("Relu", ["c"], ["the result"], name="relu"),
    ]
    proto = model(nodes, [value("a b", ["n", 3]), value("a_b", ["n", 3])], ["the result"])
    source, target = saved(proto, tmp_path), tmp_path / "out.onnx"
    optimize_onnx(source, target)
    assert face(target) == face(source)
    given = [numbers(5, 3), numbers(5, 3, seed=1)]
    assert_same(run(onnx.load(target), given), run(proto, given))


def test_half_precision_stays(tmp_path: Path) -> None:
    source = saved(network(["n", 3, 6, 6], dtype=np.float16), tmp_path)
    target = tmp_path / "out.onnx"
    optimize_onnx(source, target)
    assert face(target) == face(source)
    assert operators(target) == ["Conv", "Relu"]


def test_the_result_may_replace_the_source(tmp_path: Path) -> None:
    source = saved(network(["n", 3, 6, 6]), tmp_path)
    optimize_onnx(source, source)
    assert operators(source) == ["Conv", "Relu"]
    assert list(contents(tmp_path)) == ["net.onnx"]


def test_weights_beside_the_source(tmp_path: Path) -> None:
    source, target = tmp_path / "net.onnx", tmp_path / "out.onnx"
    proto = network(["n", 3, 6, 6])
    onnx.save(proto, source, save_as_external_data=True, location="w.data", size_threshold=0)
    optimize_onnx(source, target)
    wanted = run(network(["n", 3, 6, 6]), [IMAGE])
    assert_same(run(onnx.load(target), [IMAGE]), wanted)


def test_a_layer_can_be_skipped(tmp_path: Path) -> None:
    source, target = saved(network(["n", 3, 6, 6]), tmp_path), tmp_path / "out.onnx"
    done = optimize_onnx(source, target, skip=("norm.BN",))
    assert operators(target) == ["BatchNormalization", "Conv", "Relu"]
    assert [row.reason for row in done.report.kept] == ["skipped"]


def test_a_conversion_that_is_wrong_is_noticed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def wrong(site: Site) -> Operand:
        return site.call(torch.mul, site.call(torch.relu, site.value(0)), 1.001)

    monkeypatch.setattr(convert, "OPERATORS", {**OPERATORS, "Relu": wrong})
    source = saved(network(["n", 3, 6, 6]), tmp_path)
    with pytest.raises(ExportError, match=r"reads .*net\.onnx otherwise than onnxruntime does"):
        optimize_onnx(source, tmp_path / "out.onnx")
    assert list(contents(tmp_path)) == ["net.onnx"]


@pytest.mark.parametrize("what", ["damaged", "missing", "operator", "suffix", "folder", "shape"])
def test_nothing_is_written_where_something_is_wrong(what: str, tmp_path: Path) -> None:
    proto = network(["n", 3, 6, 6])
    if what == "operator":
        proto.graph.node[3].op_type = "Det"
    source = saved(proto, tmp_path)
    if what == "damaged":
        source.write_bytes(source.read_bytes()[:-50])
    if what == "missing":
        source = tmp_path / "other.onnx"
    target = saved(network(["n", 3, 6, 6]), tmp_path, "out.onnx")
    if what == "suffix":
        target = tmp_path / "out.txt"
    if what == "folder":
        target = tmp_path / "nowhere" / "out.onnx"
    inputs = (torch.zeros(1, 4, 6, 6),) if what == "shape" else None
    before = contents(tmp_path)
    with pytest.raises(BnfuseError) as caught:
        optimize_onnx(source, target, inputs)
    assert "\n" not in str(caught.value)
    assert contents(tmp_path) == before
