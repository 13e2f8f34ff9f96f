"""Archives of ``torch.export`` on the command line, written and read."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

import torch
from torch import nn

import bnfuse
from tests.cli.support import TINY, refused

if TYPE_CHECKING:
    from pathlib import Path

    from tests.cli.support import Run

FOLDED = "Sequential: 1 of 1 batch norms folded."


def test_optimize_writes_an_archive_that_reports_and_verifies(run: Run, folder: Path) -> None:
    written = run("optimize", TINY, "-o", "net.pt2")
    assert written.code == 0
    assert FOLDED in written.out
    assert "net.pt2 is equal to the unfused model in float64 on cpu" in written.out
    assert written.out.endswith("\nWrote net.pt2.\n")
    reported = run("report", "net.pt2", "--json")
    assert json.loads(reported.out)["name_map"] == {"1": "0"}
    verified = run("verify", TINY, "net.pt2")
    assert verified.code == 0
    assert verified.out.startswith("net.pt2 is equal to the unfused model in float64 on cpu")
    assert run("verify", "tinymodels:other", "net.pt2").code == 1
    assert bnfuse.load(folder / "net.pt2")(torch.randn(5, 4)).shape == (5, 3)


def test_archive_is_a_model(run: Run, folder: Path) -> None:
    program = torch.export.export(
        nn.Sequential(nn.Linear(4, 3), nn.BatchNorm1d(3)).eval(), (torch.randn(2, 4),)
    )
    program.example_inputs = None
    torch.export.save(program, folder / "net.pt2")
    explained = run("explain", "net.pt2")
    assert explained.code == 0
    assert "1 of 1 batch norms folded" in explained.out
    assert "random" not in explained.err
    optimized = run("optimize", "net.pt2", "-o", "net.onnx")
    assert optimized.code == 0
    assert "net.onnx is equal to the unfused model in float64" in optimized.out
    assert json.loads(run("report", "net.onnx", "--json").out)["kept"] == []


def test_archive_that_can_run_code_needs_the_flag(run: Run, folder: Path) -> None:
    torch.export.save(
        torch.export.export(nn.Linear(4, 3).eval(), (torch.randn(2, 4),)), folder / "net.pt2"
    )
    wanted = (
        "net.pt2 can run code when it is loaded (the entry data/sample_inputs/model.pt, which is "
        "pickled or of an unknown kind): if you trust where it is from, pass allow_pickle=True, or "
        "--allow-pickle on the command line."
    )
    for command in ("explain", "bench", "verify"):
        refused(run, folder, wanted, command, "net.pt2")
    refused(run, folder, wanted, "optimize", "net.pt2", "-o", "net.onnx")
    allowed = run("explain", "net.pt2", "--allow-pickle")
    assert allowed.code == 0
    assert "0 of 0 batch norms folded" in allowed.out


def test_an_archive_is_timed_as_a_model(run: Run, folder: Path) -> None:
    assert run("optimize", TINY, "-o", "net.pt2").code == 0
    timed = run("bench", "net.pt2", "--seconds", "0.1", "--device", "cpu")
    assert timed.code == 0
    rows = ["median", "eager", "bnfuse", "onnxruntime", "python"]
    assert [line.split()[0] for line in timed.out.splitlines()[:5]] == rows


def test_an_archive_is_not_written_over_itself(run: Run, folder: Path) -> None:
    assert run("optimize", TINY, "-o", "net.pt2").code == 0
    wanted = (
        "--output net.pt2 is the file that MODEL net.pt2 names, which is never overwritten: name "
        "another file to write."
    )
    refused(run, folder, wanted, "optimize", "net.pt2", "-o", "./net.pt2")


def test_what_is_no_archive(run: Run, folder: Path) -> None:
    refused(run, folder, "there is no file net.pt2: check the path.", "explain", "net.pt2")
    (folder / "net.pt2").write_bytes(b"no archive")
    wanted = (
        "net.pt2 is no .pt2 archive, or a damaged one (BadZipFile: File is not a zip file): write "
        "it again with bnfuse.export_pt2."
    )
    refused(run, folder, wanted, "explain", "net.pt2")
    refused(run, folder, wanted, "report", "net.pt2")
    refused(run, folder, wanted, "verify", TINY, "net.pt2")
    wanted = "net.pt2 holds its own weights: leave out --weights."
    refused(run, folder, wanted, "explain", "net.pt2", "--weights", "w.pt")


def test_shapes_of_an_archives_inputs(run: Run, folder: Path) -> None:
    assert run("optimize", TINY, "-o", "net.pt2").code == 0
    assert run("verify", "net.pt2", "--input", "7x4").code == 0
    wanted = "the archive takes 1 tensors and 2 shapes are given: give the shape of each."
    refused(run, folder, wanted, "explain", "net.pt2", "--input", "7x4", "--input", "2x4")
