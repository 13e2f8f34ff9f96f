"""Running exported files in onnxruntime."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import onnxruntime
import pytest
import torch

from bnfuse.errors import ExportError, MissingDependencyError, RequestError
from bnfuse.export.runtime import OnnxSession, file_device, provider_names

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


def is_strict(options: onnxruntime.SessionOptions) -> bool:
    """Whether a session may not leave anything to the CPU."""
    try:
        entry = options.get_session_config_entry("session.disable_cpu_ep_fallback")
    except RuntimeError:  # there is no such entry
        return False
    return str(entry) == "1"


class Elsewhere:
    """Stands for onnxruntime's session, which runs on the CPU whatever it is asked for."""

    fails_if_strict = True

    def __init__(self, path: str, options: Any, providers: list[Any], enable_fallback: int) -> None:
        assert providers == [("CUDAExecutionProvider", {"use_tf32": "0"})]
        assert enable_fallback == 0
        if self.fails_if_strict and is_strict(options):
            raise RuntimeError("fallback to CPU EP has been explicitly disabled by the user.")

    def get_providers(self) -> list[str]:
        return ["CPUExecutionProvider"]


class Partly(Elsewhere):
    """Stands for a session on CUDA that leaves some nodes to the CPU."""

    def get_providers(self) -> list[str]:
        return ["CUDAExecutionProvider", "CPUExecutionProvider"]


@pytest.mark.parametrize("fails_if_strict", [True, False])
def test_silent_fall_back_to_the_cpu_is_an_error(
    exported: Exported, monkeypatch: pytest.MonkeyPatch, fails_if_strict: bool
) -> None:
    """Regression: it falls back without a word, https://github.com/microsoft/onnxruntime/issues/26996."""
    monkeypatch.setattr("onnxruntime.InferenceSession", Elsewhere)
    monkeypatch.setattr(Elsewhere, "fails_if_strict", fails_if_strict)
    wanted = (
        f"onnxruntime runs {exported.done.path} with CPUExecutionProvider, not with "
        "CUDAExecutionProvider: install 'bnfuse[gpu]' in place of 'bnfuse[cpu]', see bnfuse "
        "doctor, or run it on the CPU."
    )
    with pytest.raises(ExportError, match=f"^{re.escape(wanted)}$"):
        OnnxSession(exported.done.path, cuda=True)


def test_file_that_the_provider_runs_in_part(
    exported: Exported, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("onnxruntime.InferenceSession", Partly)
    wanted = (
        f"CUDAExecutionProvider cannot run all of {exported.done.path} (fallback to CPU EP has "
        "been explicitly disabled by the user.): pass providers=['CUDAExecutionProvider', "
        "'CPUExecutionProvider'] to let the CPU do the rest."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        OnnxSession(exported.done.path, cuda=True)


def test_provider_that_is_not_there(exported: Exported) -> None:
    start = re.escape("onnxruntime has no CoreMLExecutionProvider here, only ")
    pattern = rf"{start}.*CPUExecutionProvider.*: name a provider that can run it\."
    with pytest.raises(RequestError, match=f"^{pattern}$"):
        OnnxSession(exported.done.path, providers=["CoreMLExecutionProvider"])


@pytest.mark.parametrize("providers", ["CPUExecutionProvider", []])
def test_providers_are_a_list(providers: Any) -> None:
    wanted = (
        f"providers is {providers!r}: pass a list of execution providers, such as "
        "['CPUExecutionProvider']."
    )
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        provider_names(providers)


def test_providers_with_settings(exported: Exported) -> None:
    providers = [("CPUExecutionProvider", {"arena_extend_strategy": "kSameAsRequested"})]
    assert provider_names(providers) == ["CPUExecutionProvider"]
    session = OnnxSession(exported.done.path, providers=providers)
    assert session.provider == "CPUExecutionProvider"
    assert session.dtype is torch.float32
