"""The bytes of an ONNX file: whole, checked, the same each time, and silent about the machine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from bnfuse.errors import ExportError
from bnfuse.export.onnx import export_onnx
from bnfuse.export.onnx_file import count_from_front, tidy
from bnfuse.export.stored_report import read_report

if TYPE_CHECKING:
    from torch import Tensor

    from tests.export.conftest import Exported

ROOT = Path(__file__).resolve().parents[2]
EXPORT = """
import sys, torch, bnfuse
from torch import nn
torch.manual_seed(0)
layers = (nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.BatchNorm2d(4))
bnfuse.export_onnx(nn.Sequential(*layers).eval(), sys.argv[1], (torch.randn(2, 3, 6, 6),))
"""


class Branching(nn.Module):
    """A model that torch.fx cannot trace and torch.onnx writes with graphs inside a node."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        def normalized(x: Tensor) -> Tensor:
            return self.bn(self.fc(x))

        return torch.cond(x.sum() > 0, normalized, torch.neg, (x,))


class NoTrace(nn.Module):
    """A model whose number of outputs depends on values, which no exporter takes."""

    def __init__(self) -> None:
        super().__init__()
        self.bn = nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(x) if float(x.sum()) > 0 else x


def machine_paths() -> list[bytes]:
    """Return texts that name a place on this machine."""
    places = [ROOT, Path(torch.__file__).parents[1], Path.home(), Path(sys.prefix)]
    return [*(str(place).encode() for place in places), b"site-packages", b".py"]


def test_file_names_no_place_on_this_machine(exported: Exported) -> None:
    content = exported.done.path.read_bytes()
    assert b"bnfuse.report" in content
    assert [place for place in machine_paths() if place in content] == []


def test_graphs_inside_nodes_name_no_place_either(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    done = export_onnx(Branching().eval(), path, (torch.randn(2, 4),))
    assert done.nodes["If"] == 1
    content = path.read_bytes()
    assert [place for place in machine_paths() if place in content] == []


def test_exporter_does_write_such_places(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfuse.export.onnx.describe", lambda *_: None)
    monkeypatch.setattr("bnfuse.export.program.forget_origin", lambda _: None)
    path = tmp_path / "net.onnx"
    export_onnx(Branching().eval(), path, (torch.randn(2, 4),), verify=False)
    content = path.read_bytes()
    assert [place for place in machine_paths() if place in content] != []


def test_two_processes_write_the_same_bytes(tmp_path: Path) -> None:
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", EXPORT, str(tmp_path / f"{seed}.onnx")],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed},
        )
        for seed in ("1", "2")
    ]
    assert [process.wait(timeout=300) for process in processes] == [0, 0]
    first, second = ((tmp_path / f"{seed}.onnx").read_bytes() for seed in ("1", "2"))
    assert first == second
    assert len(first) > 1000


def test_model_that_cannot_be_converted(tmp_path: Path) -> None:
    advice = "torch.export.draft_export(model, args) shows what is in its way."
    pattern = rf"torch\.export cannot follow NoTrace \(\w+: [^\n\x1b]+\): {re.escape(advice)}"
    with pytest.raises(ExportError, match=f"^{pattern}$"):
        export_onnx(NoTrace().eval(), tmp_path / "net.onnx", (torch.randn(2, 4),))
    assert list(tmp_path.iterdir()) == []


def test_runtime_that_cannot_load_the_file_names_the_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double().eval()
    path = tmp_path / "net.onnx"
    start = re.escape(f"CPUExecutionProvider cannot run {path} (")
    example = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    with pytest.raises(
        ExportError, match=f"^{start}.+: name other providers, or leave the check out\\.$"
    ):
        export_onnx(model, path, (example,))
    assert list(tmp_path.iterdir()) == []
    export_onnx(model, path, (example,), verify=False)
    assert len(read_report(path).folded) == 1


class Pooled(nn.Module):
    """A model that averages an image whose channels are stored last."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(size)

    def forward(self, x: Tensor) -> Tensor:
        return self.pool(x.contiguous(memory_format=torch.channels_last)).flatten(1)


@pytest.mark.parametrize(("size", "wanted"), [(1, "ReduceMean"), (2, "AveragePool")])
def test_average_of_an_image_is_a_mean(tmp_path: Path, size: int, wanted: str) -> None:
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    done = export_onnx(Pooled(size).eval(), tmp_path / "net.onnx", (x,))
    assert done.nodes == {wanted: 1, "Reshape": 1}
    assert done.dynamic_batch


class Repeated(nn.Module):
    """A model that returns an input, and one value three times, once as a slice of all of it."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.bn = nn.Linear(4, 4), nn.BatchNorm1d(4)

    def forward(self, x: Tensor) -> tuple[Tensor, ...]:
        y = self.bn(self.fc(x))
        z = y[:, :4].relu()
        return y, y, x, z[:, :4], z.neg()


def test_identities_stay_only_where_an_output_needs_them(tmp_path: Path) -> None:
    x = torch.randn(2, 4, generator=torch.Generator().manual_seed(0))
    done = export_onnx(Repeated().eval(), tmp_path / "net.onnx", (x,))
    # One for the input that is returned, one for what is returned twice.
    assert done.nodes == {"Gemm": 1, "Relu": 1, "Neg": 1, "Identity": 2}


def identity_model(*nodes: tuple[str, str, str], outputs: str) -> Any:
    """Return a model of operators with one input and one output each; x is the input."""
    made = [helper.make_node(op, [i], [o]) for op, i, o in nodes]
    make = helper.make_tensor_value_info
    names = {name: make(name, TensorProto.FLOAT, [1]) for name in "x" + outputs}
    weight = helper.make_tensor("w", TensorProto.FLOAT, [1], [1.0])
    graph = helper.make_graph(made, "g", [names["x"]], [names[o] for o in outputs], [weight])
    return onnx_ir.serde.deserialize_model(helper.make_model(graph))


@pytest.mark.parametrize(
    ("nodes", "outputs", "wanted"),
    [
        ([("Relu", "x", "a"), ("Identity", "a", "b"), ("Neg", "b", "c")], "c", "Relu Neg"),
        ([("Relu", "x", "a"), ("Identity", "a", "b")], "b", "Relu"),
        ([("Relu", "x", "a"), ("Identity", "a", "b"), ("Identity", "b", "c")], "c", "Relu"),
        ([("Relu", "x", "a"), ("Identity", "a", "b"), ("Neg", "a", "c")], "bc", "Relu Neg"),
        ([("Identity", "x", "a"), ("Neg", "a", "b")], "b", "Neg"),
        ([("Identity", "x", "a")], "a", "Identity"),
        ([("Identity", "w", "a")], "a", "Identity"),
        ([("Relu", "x", "a"), ("Identity", "a", "b")], "ab", "Relu Identity"),
        ([("Relu", "x", "a"), ("Neg", "x", "b"), ("Neg", "b", "c")], "a", "Relu"),
    ],
)
def test_what_does_nothing_goes(
    nodes: list[tuple[str, str, str]], outputs: str, wanted: str
) -> None:
    model = identity_model(*nodes, outputs=outputs)
    tidy(model)
    proto = onnx_ir.to_proto(model)
    onnx.checker.check_model(proto, full_check=True)
    assert [node.op_type for node in proto.graph.node] == wanted.split()
    assert [output.name for output in proto.graph.output] == list(outputs)
    assert {tensor.name for tensor in proto.graph.initializer} <= {"w"}


def test_identity_inside_a_branch(tmp_path: Path) -> None:
    """What a branch returns has to be made in it."""
    done = export_onnx(Branching().eval(), tmp_path / "net.onnx", (torch.randn(2, 4),))
    assert done.nodes["If"] == 1


class Joined(nn.Module):
    """Two values put side by side, on the axis of their channels counted from the end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.cat((x, x.relu()), -3)


def test_axis_of_a_concatenation_is_counted_from_the_front(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    export_onnx(Joined().eval(), path, (torch.randn(2, 3, 4, 5),))
    (node,) = (n for n in onnx.load(path).graph.node if n.op_type == "Concat")
    assert [a.i for a in node.attribute if a.name == "axis"] == [1]


def test_axis_stays_where_the_rank_is_not_known() -> None:
    node = onnx_ir.node("Concat", [onnx_ir.val("x")], {"axis": -3})
    count_from_front(node)
    assert node.attributes["axis"].as_int() == -3
