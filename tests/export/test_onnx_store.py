"""Writing a file and its weights, whole."""

from __future__ import annotations

from typing import TYPE_CHECKING

import onnx
import pytest

from bnfuse.errors import ExportError
from bnfuse.export.onnx_store import save_checked
from tests.export.support import a_proto

if TYPE_CHECKING:
    from pathlib import Path


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
