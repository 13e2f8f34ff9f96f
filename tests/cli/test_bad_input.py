"""Every bad input: one sentence on stderr, exit code 1, no traceback, nothing half-written."""

from __future__ import annotations

import pickle
import sys
from typing import TYPE_CHECKING

import onnx
import pytest
import torch

from bnfuse.zoo import load_model
from tests.cli.support import TINY, refused

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.support import Run


class Attack:
    """A pickle that runs code when it is loaded."""

    def __reduce__(self) -> tuple[object, ...]:
        return eval, ("open('was-run', 'w').close()",)


@pytest.mark.parametrize("shape", ["2x", "0x4", "axb", "-1x4", "2,4", "1.5x4", ""])
def test_shape(run: Run, folder: Path, shape: str) -> None:
    wanted = f"{shape!r} is no shape: write one like 1x3x224x224."
    refused(run, folder, wanted, "optimize", TINY, "-o", "net.onnx", "--input", shape)


@pytest.mark.parametrize("command", ["explain", "optimize", "verify", "bench"])
def test_shape_that_does_not_fit(run: Run, folder: Path, command: str) -> None:
    options = ["-o", "net.onnx"] if command == "optimize" else []
    wanted = (
        "Sequential cannot run on the example inputs (RuntimeError: mat1 and mat2 shapes cannot be "
        "multiplied (2x5 and 4x3)): pass inputs that the model accepts, or --input SHAPE on the "
        "command line."
    )
    refused(run, folder, wanted, command, TINY, *options, "--input", "2x5")


def test_plot_without_layers(run: Run, folder: Path) -> None:
    wanted = "--plot draws the layers' errors: ask for them with --per-layer."
    refused(run, folder, wanted, "verify", TINY, "--plot", "layers.png")


def test_plot_of_an_unknown_format(run: Run, folder: Path) -> None:
    wanted = (
        "matplotlib does not know the suffix of 'layers.txt': "
        "name a file that ends in .png, .svg or .pdf."
    )
    refused(run, folder, wanted, "verify", TINY, "--per-layer", "--plot", "layers.txt")


def test_layers_of_a_file(run: Run, folder: Path) -> None:
    assert run("optimize", TINY, "-o", "net.onnx").code == 0
    wanted = (
        "per_layer compares the layers of a module, and net.onnx is a file: "
        "pass what bnfuse.optimize returned."
    )
    refused(run, folder, wanted, "verify", TINY, "net.onnx", "--per-layer")


def test_file_of_another_kind(run: Run, folder: Path) -> None:
    (folder / "net.tflite").write_bytes(b"file")
    wanted = (
        "verify runs files that end in .onnx, .pt2 or .engine, and net.tflite ends in .tflite: "
        "export the model with bnfuse.export_onnx or bnfuse.export_pt2 and pass that file."
    )
    refused(run, folder, wanted, "verify", TINY, "net.tflite")


def test_file_that_bench_does_not_time(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bnfuse.cli.app.load_model", lambda *_, **__: pytest.fail("too late"))
    start = "bench times .onnx files beside the model, and net"
    for kind, instead in (
        ("pt2", "time it as the model itself, as bnfuse bench net.pt2 does"),
        ("engine", "leave it out to time the optimized model"),
    ):
        wanted = (
            f"{start}.{kind} ends in .{kind}: pass a file that bnfuse.export_onnx wrote, or "
            f"{instead}."
        )
        refused(run, folder, wanted, "bench", TINY, f"net.{kind}")
    refused(run, folder, "there is no file net.onnx: check the path.", "bench", TINY, "net.onnx")


def test_engine_without_its_facts(run: Run, folder: Path) -> None:
    (folder / "net.engine").write_bytes(b"engine")
    wanted = (
        "net.engine has no net.engine.json beside it, which says what can load it: copy both "
        "files that bnfuse.export_tensorrt wrote."
    )
    refused(run, folder, wanted, "verify", TINY, "net.engine")


def test_missing_weights(run: Run, folder: Path) -> None:
    wanted = "there is no file w.pt: check the path."
    refused(run, folder, wanted, "explain", TINY, "--weights", "w.pt")


@pytest.mark.parametrize(
    ("content", "what"),
    [
        (b"", "is empty"),
        (b"not weights", "holds text that begins with 'not weights', not weights"),
        (b"\x00\x01", "holds data of another kind, not weights"),
    ],
)
def test_no_weights(run: Run, folder: Path, content: bytes, what: str) -> None:
    (folder / "w.pt").write_bytes(content)
    wanted = f"w.pt {what}: save model.state_dict() with torch.save and give that file."
    refused(run, folder, wanted, "explain", TINY, "--weights", "w.pt")


def test_weights_that_do_not_fit(run: Run, folder: Path) -> None:
    torch.save(load_model("tinymodels:wide").model.state_dict(), folder / "w.pt")
    wanted = (
        "w.pt does not fit Sequential ('0.weight' has the shape 5x4 in it and 3x4 in the model): "
        "give the weights of this very model."
    )
    refused(run, folder, wanted, "optimize", TINY, "-o", "net.onnx", "--weights", "w.pt")


@pytest.mark.parametrize("how", ["torch", "pickle"])
def test_weights_with_code_are_refused_and_not_run(run: Run, folder: Path, how: str) -> None:
    if how == "torch":
        torch.save({"0.weight": Attack()}, folder / "w.pt")
    else:
        (folder / "w.pt").write_bytes(pickle.dumps(Attack()))
    what = {
        "torch": "holds more than weights (eval), and loading it could run code",
        "pickle": "is a pickle of another kind than torch.save makes by default",
    }[how]
    wanted = f"w.pt {what}: save model.state_dict() with torch.save and give that file."
    refused(run, folder, wanted, "explain", TINY, "--weights", "w.pt")
    assert not (folder / "was-run").exists()


def test_the_attack_would_work(folder: Path) -> None:
    pickle.loads(pickle.dumps(Attack()))
    assert (folder / "was-run").exists()


@pytest.mark.parametrize("module", ["onnx", "onnxscript", "onnxruntime"])
def test_missing_package(
    run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, module: str
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    wanted = (
        f"{module} is needed to export ONNX and does not import (import of {module} halted; None "
        "in sys.modules): pip install 'bnfuse[cpu]'."
    )
    refused(run, folder, wanted, "optimize", TINY, "-o", "net.onnx")


@pytest.mark.parametrize("module", ["timm", "torchvision"])
def test_missing_zoo(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    imported = "timm" if module == "timm" else "torchvision.models"
    monkeypatch.setitem(sys.modules, imported, None)
    wanted = (
        f"{imported} is needed for models named {module}:... and does not import (import of "
        f"{imported} halted; None in sys.modules): pip install 'bnfuse[zoo]'."
    )
    refused(run, folder, wanted, "explain", f"{module}:resnet18")


@pytest.mark.parametrize(
    ("output", "wanted"),
    [
        (
            "net.pt",
            "net.pt ends in none of .onnx, .pt2 and .engine: name the file like net.onnx.",
        ),
        (
            "nowhere/net.onnx",
            (
                "nowhere/net.onnx cannot be written (No such file or directory): "
                "choose a path in a folder that exists and is writable."
            ),
        ),
        (
            "tinymodels.py/net.onnx",
            (
                "tinymodels.py/net.onnx cannot be written (Not a directory): "
                "choose a path in a folder that exists and is writable."
            ),
        ),
    ],
)
def test_output(run: Run, folder: Path, output: str, wanted: str) -> None:
    refused(run, folder, wanted, "optimize", TINY, "-o", output)


@pytest.mark.parametrize("command", ["verify", "bench"])
def test_device(run: Run, folder: Path, command: str) -> None:
    wanted = "there is no device 'gpu': pass 'cpu' or 'cuda'."
    refused(run, folder, wanted, command, TINY, "--device", "gpu")


def test_seconds(run: Run, folder: Path) -> None:
    wanted = "seconds is 0.0: pass how long to measure, such as 10."
    refused(run, folder, wanted, "bench", TINY, "--seconds", "0")


def test_skip(run: Run, folder: Path) -> None:
    wanted = "skip names 'bn', and no layer is called that: see bnfuse.explain(model)."
    refused(run, folder, wanted, "explain", TINY, "--skip", "bn")


def test_files(run: Run, folder: Path) -> None:
    missing = "there is no file net.onnx: check the path."
    refused(run, folder, missing, "report", "net.onnx")
    refused(run, folder, missing, "verify", TINY, "net.onnx")
    (folder / "net.onnx").write_bytes(b"\xff" * 9)
    unread = "net.onnx is no ONNX file (DecodeError): give one that bnfuse wrote."
    refused(run, folder, unread, "report", "net.onnx")
    pattern = r"onnxruntime cannot load net\.onnx \(.+\): export the file again\."
    refused(run, folder, pattern, "verify", TINY, "net.onnx", exact=False)
    onnx.save(onnx.ModelProto(), folder / "net.onnx")
    wanted = (
        "net.onnx carries no report, it was not written by bnfuse: only files from "
        "bnfuse.export_onnx and bnfuse.export_pt2 do."
    )
    refused(run, folder, wanted, "report", "net.onnx")
    refused(
        run,
        folder,
        r"verify runs files that end in \.onnx, \.pt2 or \.engine, and net\.pt ends in \.pt: .+",
        "verify",
        TINY,
        "net.pt",
        exact=False,
    )


@pytest.mark.parametrize(
    "arguments",
    [("optimize", TINY), ("explain",), ("nothing",), ("bench", TINY, "--seconds", "soon")],
)
def test_usage(run: Run, folder: Path, arguments: tuple[str, ...]) -> None:
    outcome = run(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    assert "Usage: " in outcome.err
    assert "Traceback" not in outcome.err
