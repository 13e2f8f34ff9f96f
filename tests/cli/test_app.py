"""What every command does when all is well."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
import torch
from typer.testing import CliRunner

import bnfuse
from bnfuse.cli.app import app
from bnfuse.zoo import load_model
from tests.cli.support import TINY

if TYPE_CHECKING:
    from tests.cli.support import Run

ROOT = Path(__file__).resolve().parents[2]
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


def help_of(*command: str) -> str:
    """Return the help text of a command, on a wide terminal and without colours."""
    result = CliRunner().invoke(
        app, [*command, "--help"], env={"TERMINAL_WIDTH": "200", "COLUMNS": "200", "NO_COLOR": "1"}
    )
    assert result.exit_code == 0
    return re.sub(r"\x1b\[[0-9;]*m", "", result.output)


@pytest.mark.parametrize("command", sorted(ARGUMENTS))
def test_help_names_every_argument(command: str) -> None:
    text = help_of(command)
    assert [name for name in ARGUMENTS[command] if name not in text] == []
    assert f"bnfuse {command}" in text.replace("root", "bnfuse").replace("main", "bnfuse")


def test_help_names_every_command() -> None:
    text = help_of()
    assert [name for name in ARGUMENTS if f" {name} " not in text] == []
    assert {
        command.callback.__name__ for command in app.registered_commands if command.callback
    } == (set(ARGUMENTS))


def test_help_names_the_exit_codes() -> None:
    text = " ".join(help_of().split())
    assert "Exit codes: 0 where all went well; 1 for an error, which stderr has in one" in text
    assert "2 for an unknown command or option; 130 after Ctrl-C." in text


def test_version(run: Run) -> None:
    outcome = run("--version")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"bnfuse {bnfuse.__version__}\n", "")


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


# Whoever starts the tests in the background has them ignore interrupts, and a child inherits that.
HEEDING = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
from bnfuse.cli import main
main()
"""


def test_interrupt_leaves_no_file(folder: Path) -> None:
    command = [sys.executable, "-c", HEEDING, "optimize", "tinymodels:slow", "-o", "net.onnx"]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        while process.poll() is None and not (folder / "running").exists():  # made by the forward
            time.sleep(0.05)
        assert process.poll() is None, process.communicate()
        assert len(list(folder.glob(".net.*.onnx"))) == 1
        process.send_signal(signal.SIGINT)
        _, err = process.communicate()
    finally:
        process.kill()
    assert process.returncode == 130
    assert err.splitlines()[1:] == ["interrupted: no file was left half-written."]
    assert list(folder.glob("*.onnx")) + list(folder.glob(".*")) == []
