"""Kernels chosen by measurement: kept in a file, the same again without measuring."""

from __future__ import annotations

import copy
import json
import pickle
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import RequestError
from bnfuse.kernels import FusedLayer, tune
from tests.kernels.support import drawn, error, has_packed

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

X = drawn(1, 8, 24, 24)


@pytest.fixture(autouse=True)
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the file of measurements, in a folder of the test's own."""
    monkeypatch.setenv("BNFUSE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "kernels.json"


SIGNAL = drawn(1, 8, 576)


def model(axes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    if axes == 1:
        return nn.Sequential(nn.Conv1d(8, 8, 3), nn.BatchNorm1d(8), nn.ReLU()).eval()
    return nn.Sequential(nn.Conv2d(8, 8, 3), nn.BatchNorm2d(8), nn.ReLU()).eval()


def layer_of(fused: nn.Module) -> FusedLayer:
    (layer,) = [module for module in fused.modules() if isinstance(module, FusedLayer)]
    return layer


def pretend(monkeypatch: pytest.MonkeyPatch, times: dict[int, float]) -> list[int]:
    """Let each measurement take a given time, by its turn, and return the list of those made."""
    made: list[int] = []

    def seconds(run: object) -> float:
        made.append(len(made))
        return times[made[-1] % 2]

    monkeypatch.setattr(tune, "_seconds", seconds)
    return made


@pytest.mark.parametrize("is_faster", [True, False])
@pytest.mark.parametrize("x", [X, SIGNAL], ids=["image", "signal"])
def test_the_faster_one_runs(
    monkeypatch: pytest.MonkeyPatch, file: Path, x: torch.Tensor, *, is_faster: bool
) -> None:
    axes = x.ndim - 2
    made = pretend(monkeypatch, {0: 1.0, 1: 0.5 if is_faster else 2.0})
    fused = bnfuse.optimize(model(axes), (x,), tune=True)
    layer = layer_of(fused)
    assert layer.choices == {tuple(x.shape): is_faster}
    assert error(fused(x), model(axes)(x)) < 1e-6
    assert has_packed(layer) == is_faster
    for other in (copy.deepcopy(fused), pickle.loads(pickle.dumps(fused))):
        assert layer_of(other).choices == layer.choices
    assert list(json.loads(file.read_text()).values()) == [is_faster]
    count = len(made)
    assert layer_of(bnfuse.optimize(model(axes), (x,), tune=True)).choices == layer.choices
    assert len(made) == count > 0


def test_other_threads_are_measured_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    made = pretend(monkeypatch, {0: 1.0, 1: 0.5})
    bnfuse.optimize(model(), (X,), tune=True)
    count = len(made)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 77)
    bnfuse.optimize(model(), (X,), tune=True)
    assert len(made) == 2 * count


@pytest.mark.parametrize("text", ["", "[1]", '{"a": 3}', "{"])
def test_damaged_files_are_written_anew(file: Path, text: str) -> None:
    file.parent.mkdir()
    file.write_text(text)
    bnfuse.optimize(model(), (X,), tune=True)
    assert [type(value) for value in json.loads(file.read_text()).values()] == [bool]
    assert [path.name for path in file.parent.iterdir()] == ["kernels.json"]


def test_folder_that_cannot_be_written(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("")
    monkeypatch.setenv("BNFUSE_CACHE", str(tmp_path / "taken"))
    assert layer_of(bnfuse.optimize(model(), (X,), tune=True)).choices.keys() == {tuple(X.shape)}


def test_what_onednn_does_not_run_is_not_measured(file: Path) -> None:
    assert (
        bnfuse.optimize(nn.Sequential(nn.Conv2d(8, 8, 3)).eval(), (X[0],), tune=True)(X[0]).ndim
        == 3
    )
    assert not file.exists()


def test_the_copy_of_a_contiguous_result_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[bool] = []

    def seconds(run: Callable[[], torch.Tensor]) -> float:
        seen.append(run().is_contiguous())
        return 1.0

    monkeypatch.setattr(tune, "_seconds", seconds)
    layer = layer_of(bnfuse.optimize(model(1), (SIGNAL,), tune=True))
    assert layer.returns_contiguous
    assert all(seen)
    count, layer.returns_contiguous = len(seen), False
    tune.tune(layer, lambda: layer(SIGNAL))
    assert not all(seen)
    assert len(seen) == 2 * count


def test_example_is_needed() -> None:
    with pytest.raises(RequestError, match="pass example_inputs"):
        bnfuse.optimize(model(), tune=True)


def test_default_folder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BNFUSE_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/somewhere")
    assert str(tune.cache_file()) == "/somewhere/bnfuse/kernels.json"
