"""Writing a file and its weights, whole."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import onnx
import onnx_ir
import pytest
import torch
from torch import nn

import bnfuse
import bnfuse.export.onnx_store as storing
from bnfuse.errors import ExportError, RequestError
from bnfuse.export.onnx_store import atomic_onnx, data_files, save_checked
from tests.export.support import a_proto, contents
from tests.support import ready

if TYPE_CHECKING:
    from bnfuse.export import OnnxExport

ROOT = Path(__file__).resolve().parents[2]
X = torch.randn(2, 64, generator=torch.Generator().manual_seed(0))
LIMITED = """
import resource, sys, torch
from tests.export.test_onnx_store import X, exported
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)
try:
    exported(sys.argv[1], external_data=sys.argv[3] == "outside")
except Exception as error:
    print(f"{type(error).__name__}: {error}")
"""


def exported(path: Any, seed: int = 0, **options: Any) -> OnnxExport:
    """Export a model of 16 kB."""
    model = ready(nn.Sequential(nn.Linear(64, 64), nn.BatchNorm1d(64)), seed).float()
    return bnfuse.export_onnx(model, path, (X,), **{"verify": False, **options})


def test_weights_stand_beside_the_file(tmp_path: Path) -> None:
    done = exported(tmp_path / "net.onnx", external_data=True, verify=True)
    assert done.data is not None
    assert re.fullmatch(r"net\.onnx\.[0-9a-f]{16}\.data", done.data.name)
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx", done.data.name}
    assert done.data.stat().st_size == 4 * 64 * 64  # the bias is too small
    assert data_files(done.path) == {done.data.name}
    assert done.verification is not None
    assert done.verification.passed


def test_weights_are_the_same_inside_and_outside(tmp_path: Path) -> None:
    both = [exported(tmp_path / f"{n}.onnx", external_data=n) for n in (True, False)]
    outside, inside = (
        {t.name: onnx.numpy_helper.to_array(t) for t in onnx.load(done.path).graph.initializer}
        for done in both
    )
    assert outside.keys() == inside.keys()
    assert all((outside[name] == inside[name]).all() for name in inside)
    assert both[1].data is None


def test_small_constants_stay_in_the_file(tmp_path: Path) -> None:
    model = ready(nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3))).float()
    done = bnfuse.export_onnx(model, tmp_path / "net.onnx", (X[:, :4],), external_data=True)
    assert done.data is None
    assert {path.name for path in tmp_path.iterdir()} == {"net.onnx"}


def test_weights_that_are_too_large_go_outside(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert exported(tmp_path / "a.onnx").data is None
    monkeypatch.setattr(storing, "LARGEST_MESSAGE", 16_000)
    assert exported(tmp_path / "b.onnx").data is not None
    assert storing.LARGEST_MESSAGE < 2**31 == 2_147_483_648


def test_message_that_is_too_large_is_told(tmp_path: Path) -> None:
    class Large:
        def SerializeToString(self, deterministic: bool) -> bytes:  # noqa: N802 - protobuf's name
            raise ValueError("Message onnx.ModelProto exceeds maximum protobuf size of 2GB")

    wanted = (
        "net.onnx would be larger than a protobuf message can be, 2 GB (ValueError): pass "
        "external_data=True, which puts the weights beside it."
    )
    with pytest.raises(ExportError, match=f"^{re.escape(wanted)}$"):
        save_checked(Large(), tmp_path / ".net.0123.onnx", "net.onnx")


def test_second_export_replaces_both_files(tmp_path: Path) -> None:
    first = exported(tmp_path / "net.onnx", external_data=True)
    (tmp_path / "net.onnx.data").write_bytes(b"somebody else's")
    same = exported(tmp_path / "net.onnx", external_data=True)
    assert same.data == first.data
    other = exported(tmp_path / "net.onnx", seed=1, external_data=True)
    assert other.data is not None
    assert other.data != first.data
    assert set(contents(tmp_path)) == {"net.onnx", other.data.name, "net.onnx.data"}
    exported(tmp_path / "net.onnx")
    assert set(contents(tmp_path)) == {"net.onnx", "net.onnx.data"}


@pytest.mark.parametrize("problem", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("seed", [0, 1])
def test_failure_leaves_the_earlier_pair(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int, problem: type[BaseException]
) -> None:
    """Also where the weights are those of the earlier file."""
    exported(tmp_path / "net.onnx", external_data=True)
    before = contents(tmp_path)

    def fails(*_: object) -> None:
        assert len(contents(tmp_path)) == 3 + seed  # with the draft, and the weights if others
        raise problem("in the middle")

    monkeypatch.setattr("bnfuse.export.onnx.save_checked", fails)
    with pytest.raises(problem, match=r"^in the middle$"):
        exported(tmp_path / "net.onnx", seed=seed, external_data=True)
    assert contents(tmp_path) == before


def test_earlier_pair_stays_until_the_file_is_renamed(tmp_path: Path) -> None:
    exported(tmp_path / "net.onnx", external_data=True)
    before = contents(tmp_path)
    with atomic_onnx(tmp_path / "net.onnx") as draft:
        draft.path.write_bytes(b"new")
        assert before.items() <= contents(tmp_path).items()
    assert contents(tmp_path) == {"net.onnx": b"new"}


@pytest.mark.skipif(sys.platform == "win32", reason="there are no limits on files")
@pytest.mark.parametrize(("limit", "where"), [(4_000, "inside"), (4_000, "outside")])
def test_full_disk(tmp_path: Path, limit: int, where: str) -> None:
    """The system refuses to make a file larger than a limit, as it does on a full disk."""
    exported(tmp_path / "net.onnx", seed=1, external_data=where == "outside")
    before = contents(tmp_path)
    path = tmp_path / "net.onnx"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(path), str(limit), where],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.stdout == f"ExportError: {path} could not be written: File too large.\n"
    assert contents(tmp_path) == before


def test_external_data_in_a_missing_folder(tmp_path: Path) -> None:
    path = tmp_path / "nowhere" / "net.onnx"
    with pytest.raises(ExportError, match=re.escape(f"{path} cannot be written (")):
        exported(path, external_data=True)
    assert contents(tmp_path) == {}


def test_file_whose_weights_are_gone_is_told(tmp_path: Path) -> None:
    done = exported(tmp_path / "net.onnx", external_data=True)
    assert done.data is not None
    done.data.unlink()
    with pytest.raises(RequestError, match=re.escape(f"onnxruntime cannot load {done.path} (")):
        bnfuse.verify(nn.Identity().eval(), done.path, (X,))


def test_bytes_of_weights_are_counted() -> None:
    model = onnx_ir.serde.deserialize_model(a_proto())
    assert not storing.is_too_large(model)


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


def test_no_data_files_where_there_is_no_file(tmp_path: Path) -> None:
    assert data_files(tmp_path / "net.onnx") == set()
    (tmp_path / "net.onnx").write_bytes(b"\xff" * 20)
    assert data_files(tmp_path / "net.onnx") == set()
