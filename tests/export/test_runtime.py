"""Running exported files in onnxruntime."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
import torch

from bnfuse.errors import MissingDependencyError, RequestError
from bnfuse.export.runtime import OnnxSession, file_device

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.validation.inputs import Arguments
    from tests.export.conftest import Exported


@pytest.fixture(scope="module")
def session(exported: Exported) -> OnnxSession:
    """Return the small model's file, loaded."""
    return OnnxSession(exported.done.path)


def test_runs_like_the_model(exported: Exported, session: OnnxSession) -> None:
    (output,) = session.run(((exported.example,), {}))
    with torch.no_grad():
        wanted = exported.model(exported.example)
    assert output.dtype == torch.float32
    assert torch.allclose(output, wanted, rtol=1e-4, atol=1e-4)
    assert wanted.abs().max() > 0.1


def test_says_where_it_runs(session: OnnxSession) -> None:
    assert session.described == "cpu, onnxruntime CPUExecutionProvider"


def test_tensors_are_fed_in_order_from_nested_arguments(
    exported: Exported, session: OnnxSession
) -> None:
    (name,) = session.feed(((exported.example,), {}))
    examples: list[Arguments] = [
        (([exported.example, 3, "text"],), {}),
        ((), {"input": {"nested": (None, exported.example)}}),
    ]
    for arguments in examples:
        feed = session.feed(arguments)
        assert list(feed) == [name]
        assert (feed[name] == exported.example.numpy()).all()


def test_time_feed_runs_the_file(session: OnnxSession, exported: Exported) -> None:
    feed = session.feed(((exported.example,), {}))
    session.time_feed(feed)
    with pytest.raises(RequestError, match=r"^the file cannot run on these inputs \("):
        session.time_feed({name: array[:, :1] for name, array in feed.items()})


def test_missing_file(tmp_path: Path) -> None:
    path = tmp_path / "net.onnx"
    wanted = f"there is no file {path}: check the path."
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        OnnxSession(path)


@pytest.mark.parametrize("content", [b"", b"no ONNX", b"\x08\x0a" * 100])
def test_corrupt_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "net.onnx"
    path.write_bytes(content)
    start, end = re.escape(f"onnxruntime cannot load {path} ("), r"\): export the file again\."
    with pytest.raises(RequestError, match=f"^{start}.+{end}$"):
        OnnxSession(path)


def test_truncated_file(tmp_path: Path, exported: Exported) -> None:
    path = tmp_path / "net.onnx"
    content = exported.done.path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(RequestError, match=re.escape(f"onnxruntime cannot load {path} (")):
        OnnxSession(path)


@pytest.mark.parametrize("count", [0, 2, 3])
def test_wrong_number_of_inputs(session: OnnxSession, exported: Exported, count: int) -> None:
    wanted = (
        f"the file takes 1 inputs (input) and {count} tensors are given: "
        "pass the inputs it was exported with."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        session.run(((exported.example,) * count, {}))


@pytest.mark.parametrize(
    "wrong",
    [torch.zeros(2, 4, 6, 6), torch.zeros(2, 3), torch.zeros(2, 3, 6, 6, dtype=torch.float64)],
    ids=["channels", "rank", "dtype"],
)
def test_inputs_that_do_not_fit(session: OnnxSession, wrong: torch.Tensor) -> None:
    start = re.escape("the file cannot run on these inputs (")
    end = re.escape("): pass inputs like those it was exported with.")
    with pytest.raises(RequestError, match=f"^{start}.+{end}$"):
        session.run(((wrong,), {}))


def test_inputs_numpy_does_not_know(session: OnnxSession, exported: Exported) -> None:
    wanted = (
        "onnxruntime cannot be given these inputs "
        "(Got unsupported ScalarType BFloat16): pass them in float32."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        session.run(((exported.example.bfloat16(),), {}))


def test_without_onnxruntime(exported: Exported, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    wanted = (
        "onnxruntime is needed to run ONNX files and does not import "
        "(import of onnxruntime halted; None in sys.modules): pip install 'bnfuse[cpu]'."
    )
    with pytest.raises(MissingDependencyError, match=f"^{re.escape(wanted)}$"):
        OnnxSession(exported.done.path)


@pytest.mark.parametrize(
    ("providers", "has_gpu", "device"),
    [
        (["CUDAExecutionProvider", "CPUExecutionProvider"], True, "cuda"),
        (["CUDAExecutionProvider", "CPUExecutionProvider"], False, "cpu"),
        (["CPUExecutionProvider"], True, "cpu"),
    ],
)
def test_files_run_on_cuda_only_where_both_packages_can(
    providers: list[str], has_gpu: bool, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.get_available_providers", lambda: providers)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: has_gpu)
    assert file_device() == device
