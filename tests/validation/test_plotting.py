"""Pictures of where errors grow."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import ExportError, MissingDependencyError, RequestError
from tests.support import noise, sequential

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.validation import Verification

STARTS = {".png": b"\x89PNG\r\n", ".svg": b"<?xml", ".pdf": b"%PDF"}


@pytest.fixture(scope="module")
def found() -> Verification:
    """Return a verification with rows of layers, one of them wrong."""
    model = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 4, 1)).float()
    fused = bnfuse.optimize(model)
    fused.get_parameter("3.weight").data[1] *= 1.01
    x = noise(1, 3, 6, 6).float()
    return bnfuse.verify(model, fused, (x,), device="cpu", per_layer=True)


@pytest.mark.parametrize("suffix", STARTS)
def test_the_suffix_says_in_which_format(found: Verification, tmp_path: Path, suffix: str) -> None:
    path = found.plot(tmp_path / f"layers{suffix}")
    assert path.read_bytes().startswith(STARTS[suffix])
    assert [entry.name for entry in tmp_path.iterdir()] == [path.name]


def test_the_picture_names_layers_and_lines(found: Verification, tmp_path: Path) -> None:
    import matplotlib as mpl

    with mpl.rc_context({"svg.fonttype": "none"}):  # text as text
        text = found.plot(str(tmp_path / "layers.svg")).read_text()
    labels = re.findall(r">([^<>\n]+)</text>", text)
    for name in (">0<", ">2<", ">3<", "Sequential", "unfused model itself", "allowed", "too large"):
        assert name.strip("<>") in labels
    assert any("unfused model in float64, cpu" in label for label in labels)


def test_callers_figures_are_left_alone(found: Verification, tmp_path: Path) -> None:
    from matplotlib import pyplot

    before = pyplot.get_fignums()
    found.plot(tmp_path / "layers.png")
    assert pyplot.get_fignums() == before


def test_without_rows_there_is_nothing_to_draw(tmp_path: Path) -> None:
    outcome = bnfuse.verify(nn.ReLU().eval(), nn.ReLU().eval(), (torch.ones(1),), device="cpu")
    text = "there are no layers to draw: call bnfuse.verify with per_layer=True."
    with pytest.raises(RequestError, match=f"^{re.escape(text)}$"):
        outcome.plot(tmp_path / "layers.png")


@pytest.mark.parametrize("name", ["layers", "layers.onnx"])
def test_other_suffixes_are_refused(found: Verification, tmp_path: Path, name: str) -> None:
    with pytest.raises(
        RequestError, match=r"matplotlib does not know the suffix of .*\.png, \.svg"
    ):
        found.plot(tmp_path / name)
    assert list(tmp_path.iterdir()) == []


def test_a_failing_write_leaves_the_old_file(
    found: Verification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from matplotlib.figure import Figure

    path = tmp_path / "layers.png"
    path.write_text("old")

    def full(*_: Any, **__: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Figure, "savefig", full)
    with pytest.raises(ExportError, match="No space left on device"):
        found.plot(path)
    assert path.read_text() == "old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["layers.png"]


def test_matplotlib_is_needed(
    found: Verification, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    with pytest.raises(MissingDependencyError, match=r"to draw layers .*bnfuse\[plot\]"):
        found.plot(tmp_path / "layers.png")
