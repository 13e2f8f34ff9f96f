"""What is kept beside an engine, and which engines are refused before they are loaded."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import ExportError, RequestError
from bnfuse.export.tensorrt_build import Built, Port
from bnfuse.export.tensorrt_facts import beside, check_loadable, facts_of, read_facts
from bnfuse.export.tensorrt_library import Library
from bnfuse.report import Report

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.export.tensorrt_facts import EngineFacts

INPUT = Port("x", "HALF", (-1, 3), (1, 3), (2, 3), (8, 3))
BUILT = Built(b"engine", {"ACTIVATION": 1}, (INPUT,), (Port("y", "HALF", (-1, 3)),), "ab", 0.5)


def a_library(version: str = "1.7.1") -> Library:
    """Return a package of some version."""
    return Library("tensorrt_rtx", SimpleNamespace(__version__=version))


@pytest.fixture
def facts() -> EngineFacts:
    """Return the facts of an engine."""
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).eval()
    return facts_of(BUILT, a_library(), ("8.6", "8.9"), bnfuse.explain(net))


@pytest.fixture
def engine(tmp_path: Path, facts: EngineFacts) -> Path:
    """Write an engine with its facts."""
    path = tmp_path / "net.engine"
    path.write_bytes(BUILT.engine)
    beside(path).write_text(facts.to_json())
    return path


def test_facts_come_back_as_they_were(engine: Path, facts: EngineFacts) -> None:
    assert read_facts(engine) == facts
    assert facts.library == "tensorrt_rtx"
    assert facts.layers == {"ACTIVATION": 1}
    assert facts.graph_sha256 == "ab"
    made = Report.from_dict(facts.report)
    assert [row.name for row in made.folded] == ["1"]
    assert made.check_seconds is None  # equal engines have equal files


def test_no_engine(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match=r"there is no file .*net\.engine: check the path"):
        read_facts(tmp_path / "net.engine")


def test_no_facts(engine: Path) -> None:
    beside(engine).unlink()
    with pytest.raises(RequestError, match=r"has no net\.engine\.json beside it"):
        read_facts(engine)


@pytest.mark.parametrize("content", ["", "{}", "[]", '{"inputs": 3}', "\x00"])
def test_corrupt_facts(engine: Path, content: str) -> None:
    beside(engine).write_text(content)
    with pytest.raises(RequestError, match=r"net\.engine\.json cannot be read .*export the engine"):
        read_facts(engine)


def test_facts_with_a_port_of_another_form(engine: Path, facts: EngineFacts) -> None:
    known: dict[str, Any] = json.loads(facts.to_json())
    known["inputs"][0]["stride"] = 2
    beside(engine).write_text(json.dumps(known))
    with pytest.raises(RequestError, match="cannot be read"):
        read_facts(engine)


def test_facts_of_another_engine(engine: Path) -> None:
    engine.write_bytes(b"another")
    with pytest.raises(RequestError, match=r"is not the engine that net\.engine\.json was written"):
        read_facts(engine)


def test_another_version(engine: Path, facts: EngineFacts) -> None:
    pattern = (
        r"was built by tensorrt_rtx 1\.7\.1 and 1\.8\.0 is installed: build it again, or "
        r"pip install tensorrt-rtx==1\.7\.1\."
    )
    with pytest.raises(ExportError, match=pattern):
        check_loadable(facts, a_library("1.8.0"), engine)


def test_no_gpu(monkeypatch: pytest.MonkeyPatch, engine: Path, facts: EngineFacts) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ExportError, match="cannot be loaded without an NVIDIA GPU and its driver"):
        check_loadable(facts, a_library(), engine)


def test_another_gpu(monkeypatch: pytest.MonkeyPatch, engine: Path, facts: EngineFacts) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (9, 0))
    pattern = (
        r"was built for compute capability 8\.6, 8\.9 and this GPU has 9\.0: build it again with "
        r"compute_capabilities=\('9\.0',\) or on this machine\."
    )
    with pytest.raises(ExportError, match=pattern):
        check_loadable(facts, a_library(), engine)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda: (8, 9))
    check_loadable(facts, a_library(), engine)
