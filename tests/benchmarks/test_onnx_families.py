"""The benchmark of the families' ONNX files: what it counts, what it complains about."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from rich.console import Console
from torch import nn

import benchmarks.onnx_families as families
from benchmarks.onnx_facts import facts
from benchmarks.onnx_families import as_table, batches, complaint, latency_table, plain, totals
from bnfuse.zoo import LoadedModel

if TYPE_CHECKING:
    from pathlib import Path

X = torch.randn(1, 3, 8, 8, generator=torch.Generator().manual_seed(0))


def small(_: str) -> LoadedModel:
    """Return a model whose batch norm torch.onnx leaves and bnfuse folds."""
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    return LoadedModel(model, (X,), is_random=True)


def text(table: Any) -> str:
    """Return a table as it is printed."""
    stream = io.StringIO()
    Console(file=stream, width=200, color_system=None).print(table)
    return stream.getvalue()


@pytest.fixture
def row(monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Return what is measured of a small model."""
    monkeypatch.setattr(families, "load_model", small)
    return families.measured("small")


def test_model_is_exported_compared_and_counted(row: dict[str, Any]) -> None:
    assert row["passed"]
    assert row["dynamic_batch"]
    assert row["compared_at"] == ["batch 1", "batch 3"]
    assert row["device"] == "cpu, onnxruntime CPUExecutionProvider"
    assert row["of_what_is_allowed"] <= 1
    assert (row["plain_file"]["batch_norms"], row["bnfuse_file"]["batch_norms"]) == (1, 0)
    assert complaint(row) == ""
    assert "open" in text(as_table([row]))
    assert "exported and equal" in text(totals([row]))


@pytest.mark.parametrize(
    ("change", "wanted"),
    [
        ({"passed": False}, "differs"),
        ({"dynamic_batch": False}, "fixed batch"),
        ({"compared_at": ["batch 1"]}, "compared at ['batch 1']"),
    ],
)
def test_what_is_not_as_it_should_be_is_told(
    row: dict[str, Any], change: dict[str, Any], wanted: str
) -> None:
    assert complaint({**row, **change}) == wanted
    file = {**row["bnfuse_file"], "casts": 2, "batch_norms": 1}
    assert complaint({**row, "bnfuse_file": file}) == (
        "2 casts, batch norms that the report does not keep"
    )
    failed = {"model": "small", "failed": "ValueError: no"}
    assert complaint(failed) == "ValueError: no"
    assert "ValueError: no" in text(as_table([failed]))


def test_failure_is_a_result() -> None:
    def raises(_: str) -> dict[str, Any]:
        raise ValueError("no")

    assert families.safely("m", raises) == {"model": "m", "failed": "ValueError: no"}


def test_batches_are_named_by_their_size() -> None:
    class Output:
        def __init__(self, name: str) -> None:
            self.name = name

    class Found:
        outputs = (Output("output, example's batch"), Output("output, batch 3"))

    assert batches(Found(), 1) == ["batch 1", "batch 3"]  # type: ignore[arg-type]  # a stand-in


def test_latency_is_judged() -> None:
    row = {"model": "m", "plain_ms": 2.0, "bnfuse_ms": 2.2, "ratio": 1.1, "low": 1.05, "high": 1.2}
    shown = text(latency_table([row, {"model": "n", "failed": "no"}]))
    assert "slower" in shown
    assert "above 0.98" in shown
    better = text(latency_table([{**row, "ratio": 0.9, "low": 0.8}]))
    assert "slower" not in better
    assert "0.900" in better


def test_facts_of_a_file(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [1, 2]) for n in "xy")
    weight = helper.make_tensor("w", TensorProto.FLOAT, [2], [1.0, 2.0])
    made = [
        helper.make_node("Mul", ["x", "w"], ["a"]),
        helper.make_node("Identity", ["a"], ["b"]),
        helper.make_node("Cast", ["b"], ["y"], to=TensorProto.FLOAT),
        helper.make_node("Neg", ["a"], ["nobody"]),
    ]
    path = tmp_path / "net.onnx"
    onnx.save(helper.make_model(helper.make_graph(made, "g", [x], [y], [weight])), path)
    found = facts(path)
    assert (found["nodes"], found["constant_arithmetic"]) == (4, 1)
    assert (found["identities"], found["casts"], found["dead"]) == (1, 1, 1)
    assert found["without_shape"] == 3
    assert found["bytes"] == path.stat().st_size


def test_plain_file_is_torchs(tmp_path: Path) -> None:
    plain(small("").model, (X,), tmp_path / "plain.onnx")
    assert onnx.load(tmp_path / "plain.onnx").producer_name == "pytorch"
