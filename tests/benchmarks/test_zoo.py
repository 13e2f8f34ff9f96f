"""Which models of the zoo are measured, and what becomes of the rows of others."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from typer import Typer
from typer.testing import CliRunner

from benchmarks import zoo
from benchmarks.storage import load, save

if TYPE_CHECKING:
    from pathlib import Path

COMMIT = "of now"


def row(model: str, commit: str, **kept: int) -> dict[str, Any]:
    """Return what is measured of a model of ten batch norms."""
    figures = {"batch_norms": 10, "folded": 10 - sum(kept.values()), "merged": 0, "equal": True}
    facts = {"captured_whole": True, "torch_fx_traces": True, "commit": commit}
    return {"model": model, **figures, "kept": kept, **facts}


@pytest.fixture
def results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "zoo.json"
    save(path, [row("whole", "old"), row("partly", "old", several=2), row("new", COMMIT, other=1)])
    monkeypatch.setattr(zoo, "RESULTS", path)
    monkeypatch.setattr(zoo, "current_commit", lambda: COMMIT)
    monkeypatch.setattr(zoo, "has_batch_norm", lambda _name: True)
    monkeypatch.setattr(zoo, "measured", lambda name: row(name, COMMIT))
    return path


def run(*options: str) -> str:
    app = Typer()
    app.command()(zoo.main)
    done = CliRunner().invoke(app, options)
    assert done.exit_code == 0, done.output
    return done.output


def commits(path: Path) -> dict[str, str]:
    return {row["model"]: row["commit"] for row in load(path)}


@pytest.mark.parametrize(
    ("options", "renewed"),
    [
        (["whole"], set()),
        (["--again", "whole"], {"whole"}),
        (["--left"], {"partly"}),
        (["another"], {"another"}),
    ],
)
def test_what_is_measured_and_what_stays(
    results: Path, options: list[str], renewed: set[str]
) -> None:
    before = commits(results)
    printed = run(*options)
    assert commits(results) == before | dict.fromkeys(renewed, COMMIT)
    assert "models with none left" in printed


def test_a_model_that_fails_is_a_row_and_is_tried_again(
    results: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(name: str) -> dict[str, Any]:
        raise ValueError(f"no {name}")

    with monkeypatch.context() as patched:
        patched.setattr(zoo, "measured", fails)
        assert "ValueError: no partly" in run("--left")
    monkeypatch.setattr(zoo, "current_commit", lambda: "the next")
    run("--left")
    assert "failed" not in {key for found in load(results) for key in found}
