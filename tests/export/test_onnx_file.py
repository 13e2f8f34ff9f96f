"""The bytes of an ONNX file: whole, checked, the same each time, and silent about the machine."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import pytest
import torch
from onnx import TensorProto, helper
from torch import nn

from bnfuse.errors import ExportError, RequestError
from bnfuse.export.onnx import export_onnx, read_report
from bnfuse.export.onnx_file import REPORT_KEY, save_checked

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


def a_proto(**metadata: str) -> Any:
    """Return the smallest ONNX model."""
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [x], [y])
    proto = helper.make_model(graph)
    helper.set_model_props(proto, metadata)
    return proto


def unreadable(path: Path, wanted: str) -> None:
    """Check that no report is read, for a reason."""
    with pytest.raises(RequestError, match=f"^{wanted}$"):
        read_report(path)


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
    advice = "torch.onnx.export(model, args, dynamo=True, report=True) writes the details."
    pattern = rf"torch\.onnx cannot convert NoTrace \(\w+: [^\n\x1b]+\): {re.escape(advice)}"
    with pytest.raises(ExportError, match=f"^{pattern}$"):
        export_onnx(NoTrace().eval(), tmp_path / "net.onnx", (torch.randn(2, 4),))
    assert list(tmp_path.iterdir()) == []


def test_runtime_that_cannot_load_the_file_names_the_file(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).double().eval()
    path = tmp_path / "net.onnx"
    start = re.escape(f"onnxruntime cannot load {path} (")
    example = torch.randn(1, 3, 6, 6, dtype=torch.float64)
    with pytest.raises(ExportError, match=f"^{start}.+: export the file again\\.$"):
        export_onnx(model, path, (example,))
    assert list(tmp_path.iterdir()) == []
    export_onnx(model, path, (example,), verify=False)
    assert len(read_report(path).folded) == 1


def test_invalid_graph_is_noticed(tmp_path: Path) -> None:
    proto = a_proto()
    proto.graph.node[0].op_type = "NoSuchOperator"
    pattern = (
        r"the exported graph is not a valid ONNX file \(.*NoSuchOperator.*\): "
        r"please report the model\."
    )
    with pytest.raises(ExportError, match=f"^{pattern}$"):
        save_checked(proto, tmp_path / "net.onnx")


def test_valid_graph_is_saved(tmp_path: Path) -> None:
    save_checked(a_proto(), tmp_path / "net.onnx")
    assert onnx.load(tmp_path / "net.onnx") == a_proto()


def test_unwritable_folder_stays_a_system_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"No such file or directory"):
        save_checked(a_proto(), tmp_path / "nowhere" / "net.onnx")


def test_no_report_in_a_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    unreadable(path, re.escape(f"there is no file {path}: check the path."))
    unreadable(tmp_path, re.escape(f"there is no file {tmp_path}: check the path."))


def test_no_report_in_a_file_of_another_kind(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(b"\xff" * 100)
    unreadable(path, re.escape(f"{path} is no ONNX file: DecodeError."))


def test_no_report_in_a_file_of_another_program(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(a_proto(author="somebody"), path)
    wanted = (
        f"{path} carries no report, it was not written by bnfuse: "
        "only files from bnfuse.export_onnx do."
    )
    unreadable(path, re.escape(wanted))


@pytest.mark.parametrize(
    "text", ["{", "[]", "3", "{}", json.dumps({"folded": [{"unknown": 1}], "merged": []})]
)
def test_no_report_in_a_damaged_entry(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.onnx"
    onnx.save(a_proto(**{REPORT_KEY: text}), path)
    start = re.escape(f"{path} carries a report that this version of bnfuse cannot read (")
    unreadable(path, rf"{start}\w+: .+\): use the version that wrote it\.")
