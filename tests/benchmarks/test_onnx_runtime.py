"""The benchmark of ONNX files: its interval, and what it counts."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from benchmarks.onnx_runtime import exported, facts, is_reached, ratio_with_interval, timed
from bnfuse.export.runtime import OnnxSession


def test_the_ratio_of_equal_times_is_one() -> None:
    blocks = [[1.0, 2.0, 3.0]] * 20
    assert ratio_with_interval(blocks, blocks) == (1.0, 1.0, 1.0)


def test_the_interval_holds_the_ratio() -> None:
    generator = torch.Generator().manual_seed(0)
    mine, theirs = (torch.rand(50, 5, generator=generator) + add for add in (1.0, 2.0))
    ratio, low, high = ratio_with_interval(mine.tolist(), theirs.tolist())
    assert low < ratio < high
    assert (low, high) == pytest.approx((0.6, 0.6), abs=0.08)


def test_a_ratio_is_judged_by_what_is_asked() -> None:
    assert is_reached({"model": "repvgg_a0", "ratio": 0.8, "low": 0.7})
    assert not is_reached({"model": "repvgg_a0", "ratio": 0.9, "low": 0.8})
    assert is_reached({"model": "resnet50", "ratio": 1.05, "low": 1.02})
    assert not is_reached({"model": "resnet50", "ratio": 1.05, "low": 1.04})


def test_both_files_are_written_and_timed(tmp_path: Path) -> None:
    model = nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 3)).eval()
    x = torch.randn(1, 3, 8, 8)
    files = exported(model, (x,), tmp_path)
    plain, fused = facts(files["plain"]), facts(files["bnfuse"])
    assert (plain["batch_norms"], fused["batch_norms"]) == (1, 0)
    assert (plain["conv"], fused["conv"], fused["nodes"]) == (1, 1, 1)
    sessions = {name: OnnxSession(path, threads=1) for name, path in files.items()}
    found = timed(sessions, ((x,), {}), seconds=0.01)
    assert found["low"] <= found["ratio"] <= found["high"]
