"""What every command does when all is well."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import TYPE_CHECKING, get_args, get_type_hints

import pytest
import torch

import bnfuse
from bnfuse.cli.app import app
from bnfuse.zoo import load_model
from tests.cli.support import TINY, help_of

if TYPE_CHECKING:
    from tests.cli.support import Run

ARGUMENTS = {
    "demo": ["--output", "--seconds"],
    "explain": ["MODEL", "--weights", "--allow-pickle", "--skip", "--json"],
    "optimize": ["MODEL", "--output", "--weights", "--input", "--allow-pickle", "--skip"],
    "verify": [
        *("MODEL", "FILE", "--weights", "--input", "--allow-pickle", "--device"),
        *("--per-layer", "--plot", "--json"),
    ],
    "bench": [
        *("MODEL", "FILE.onnx", "--weights", "--input", "--allow-pickle", "--device"),
        *("--seconds", "--output"),
    ],
    "report": ["FILE", "--json"],
    "doctor": ["--json"],
}
FOLDED = "Sequential: 1 of 1 batch norms folded."


@pytest.mark.parametrize("command", sorted(ARGUMENTS))
def test_help_names_every_argument(command: str) -> None:
    text = help_of(command)
    assert [name for name in ARGUMENTS[command] if name not in text] == []
    assert f"bnfuse {command}" in text.replace("root", "bnfuse").replace("main", "bnfuse")


def test_every_option_is_described_with_its_default() -> None:
    described = 0
    for command in app.registered_commands:
        callback = command.callback
        assert callback is not None
        hints = get_type_hints(callback, include_extras=True)
        for name, parameter in inspect.signature(callback).parameters.items():
            (info,) = get_args(hints[name])[1:]
            is_settled = parameter.default is inspect.Parameter.empty or info.show_default
            assert info.help, f"{callback.__name__} {name}"
            tells = any(word in info.help for word in ("ithout", "With --per-layer"))
            assert tells or (is_settled and parameter.default is not None), info.help
            described += 1
    assert described > 25


def test_help_names_every_command() -> None:
    text = help_of()
    assert [name for name in ARGUMENTS if f" {name} " not in text] == []
    assert {
        command.callback.__name__ for command in app.registered_commands if command.callback
    } == (set(ARGUMENTS))


def test_explain(run: Run, folder: Path) -> None:
    outcome = run("explain", TINY)
    assert outcome.code == 0
    assert outcome.words == (f"{FOLDED} batch norm outcome into or why 1 folded 0 (by fold-affine)")
    assert "random" not in outcome.err  # a factory's weights are its own
    assert sorted(path.name for path in folder.iterdir()) == ["broken.py", "tinymodels.py"]


def test_explain_as_json(run: Run, folder: Path) -> None:
    outcome = run("explain", TINY, "--json", "--skip", "1")
    assert outcome.code == 0
    made = json.loads(outcome.out)
    assert made == bnfuse.explain(load_model(TINY).model, skip=("1",)).to_dict()
    assert [row["reason"] for row in made["kept"]] == ["skipped"]


def test_explain_needs_no_inputs(run: Run, folder: Path) -> None:
    remark = "The model takes no 1x3x224x224, so no inputs are used; --input SHAPE gives them."
    for name, is_left in (("wide_image", True), ("no_example", False)):
        outcome = run("explain", f"tinymodels:{name}")
        assert outcome.code == 0
        assert FOLDED in outcome.out
        assert (remark in outcome.err) == is_left
    assert run("explain", "tinymodels:wide_image", "--input", "1x5x8x8").code == 0


def test_explain_says_that_weights_are_random(run: Run) -> None:
    outcome = run("explain", "timm:test_resnet")
    assert outcome.code == 0
    assert outcome.words.startswith("ResNet: 15 of 15 batch norms folded.")
    remark = "Weights and batch-norm statistics are random; --weights FILE loads trained ones.\n"
    assert remark in outcome.err


def test_optimize_writes_a_file_that_reports_and_verifies(run: Run, folder: Path) -> None:
    written = run("optimize", TINY, "-o", "net.onnx")
    assert written.code == 0
    assert FOLDED in written.out
    assert "net.onnx is equal to the unfused model in float64 on cpu, onnxruntime" in written.out
    assert written.out.endswith("\nWrote net.onnx.\n")
    reported = run("report", "net.onnx")
    assert (reported.code, reported.err) == (0, "")
    assert reported.words.startswith(FOLDED)
    as_json = run("report", "net.onnx", "--json")
    assert json.loads(as_json.out)["name_map"] == {"1": "0"}
    verified = run("verify", TINY, "net.onnx")
    assert verified.code == 0
    assert verified.out.startswith("net.onnx is equal to the unfused model in float64 on cpu")
    assert verified.out.rstrip().endswith("ok")
    assert len(list(folder.iterdir())) == 3


def test_verify_fails_for_the_file_of_another_model(run: Run, folder: Path) -> None:
    assert run("optimize", "tinymodels:other", "-o", "net.onnx").code == 0
    outcome = run("verify", TINY, "net.onnx")
    assert outcome.code == 1
    assert outcome.out.startswith("net.onnx is NOT equal to the unfused model in float64 on cpu")
    assert outcome.out.rstrip().endswith("too large")
    as_json = run("verify", TINY, "net.onnx", "--json")
    assert as_json.code == 1
    assert json.loads(as_json.out)["passed"] is False


def test_verify_without_a_file_checks_the_optimized_model(run: Run, folder: Path) -> None:
    outcome = run("verify", TINY, "--device", "cpu", "--json")
    assert outcome.code == 0
    found = json.loads(outcome.out)
    assert (found["passed"], found["candidate"], found["device"]) == (True, "Sequential", "cpu")


def test_verify_shows_layers(run: Run, folder: Path) -> None:
    outcome = run("verify", TINY, "--device", "cpu", "--per-layer", "--plot", "layers.svg")
    assert outcome.code == 0
    assert "layer held against error" in outcome.words
    assert outcome.words.endswith("1 values of the unfused model's layers have no counterpart")
    assert outcome.err.endswith("Wrote layers.svg.\n")
    assert (folder / "layers.svg").read_text().startswith("<?xml")
    as_json = run("verify", TINY, "--device", "cpu", "--per-layer", "--json")
    rows = [(row["name"], row["counterpart"]) for row in json.loads(as_json.out)["layers"]]
    assert rows == [("0", "1"), ("2", "2")]


def test_input_shapes_are_used(run: Run, folder: Path) -> None:
    for name in ("no_example", "one_tensor"):
        shape = {"no_example": "2x3x5x5", "one_tensor": "7x4"}[name]
        assert run("verify", f"tinymodels:{name}", "--input", shape).code == 0


def test_weights_are_loaded(run: Run, folder: Path) -> None:
    torch.save(load_model("tinymodels:other").model.state_dict(), folder / "w.pt")
    assert run("optimize", TINY, "-o", "net.onnx", "--weights", "w.pt").code == 0
    assert run("verify", "tinymodels:other", "net.onnx").code == 0


def test_bench_prints_a_table_and_writes_json(run: Run, folder: Path) -> None:
    outcome = run("bench", TINY, "--seconds", "0.2", "-o", "bench.json", "--device", "cpu")
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    rows = ["median", "eager", "bnfuse", "onnxruntime", "python"]
    assert [line.split()[0] for line in lines[:5]] == rows
    written = json.loads((folder / "bench.json").read_text())
    assert [row["name"] for row in written["rows"]] == ["eager", "bnfuse", "onnxruntime"]


def test_long_paths_are_printed_whole(run: Run, folder: Path) -> None:
    path = folder / ("long_" * 30 + ".onnx")
    assert f"Wrote {path}.\n" in run("optimize", TINY, "-o", path).out


def test_doctor(run: Run) -> None:
    outcome = run("doctor", "--json")
    found = json.loads(outcome.out)["findings"]
    assert outcome.code == (1 if any(row["is_conflict"] for row in found) else 0)
    assert [row["what"] for row in found][:4] == ["python", "processor", "threads", "torch"]
