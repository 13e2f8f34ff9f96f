"""Inputs made from what a file declares."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pytest
import torch
from onnx import helper

from bnfuse.errors import RequestError
from bnfuse.importing.convert import imported
from bnfuse.importing.example import OPEN_BATCH, example_of
from tests.importing.support import model, value

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from bnfuse.importing.file import OnnxFile


def file(folder: Path, shape: Sequence[int | str], dtype: type = np.float32) -> OnnxFile:
    """Return a file with an input of this form."""
    node = helper.make_node("Identity", ["x"], ["y"])
    path = folder / "net.onnx"
    path.write_bytes(model([node], [value("x", shape, dtype)], ["y"]).SerializeToString())
    return imported(path).file


def test_an_open_batch_is_chosen(tmp_path: Path) -> None:
    (found,) = example_of(file(tmp_path, ["batch", 3, 4]))
    assert found.shape == (OPEN_BATCH, 3, 4)
    assert found.min() < 0 < found.max()
    assert torch.equal(found, example_of(file(tmp_path, ["batch", 3, 4]))[0])


def test_whole_numbers_can_be_indices(tmp_path: Path) -> None:
    (found,) = example_of(file(tmp_path, [64], np.int64))
    assert found.dtype is torch.int64
    assert sorted(set(found.tolist())) == [0, 1]
    assert example_of(file(tmp_path, [2], np.bool_))[0].dtype is torch.bool
    assert example_of(file(tmp_path, [2], np.float16))[0].dtype is torch.float16


def test_shapes_that_are_given(tmp_path: Path) -> None:
    given = file(tmp_path, ["batch", 3, "h", "w"])
    (found,) = example_of(given, [(1, 3, 5, 6)])
    assert found.shape == (1, 3, 5, 6)
    for shape in ((1, 4, 5, 6), (1, 3, 5)):
        with pytest.raises(RequestError, match=r"'x' of .* has the shape \?x3x\?x\?, and 1x"):
            example_of(given, [shape])
    with pytest.raises(RequestError, match=r"takes 1 inputs \(x\) and 2 shapes are given"):
        example_of(given, [(1, 3, 5, 6)] * 2)


def test_other_open_sizes_must_be_given(tmp_path: Path) -> None:
    with pytest.raises(RequestError, match="leaves sizes of its input 'x' open: give a shape"):
        example_of(file(tmp_path, ["batch", 3, "h", 4]))
