"""Comparing a file at several sizes."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import RequestError
from bnfuse.export.sizes import compared, resized, with_batch

if TYPE_CHECKING:
    from pathlib import Path

    from bnfuse.validation.inputs import Arguments
    from tests.export.conftest import Exported

X = torch.arange(6.0).reshape(2, 3)


class Counting(nn.Module):
    """A model that counts its calls and takes batches of two alone."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += 1
        return x.reshape(2, -1)[:, :3]


def labels(found: bnfuse.validation.Verification) -> list[str]:
    """Return what the rows of a verification are called."""
    return [output.name for output in found.outputs]


def test_other_batch_repeats_the_samples() -> None:
    call: Arguments = (({"a": X, "b": torch.tensor(1.0)}, "text"), {"c": X[:1]})
    (nested, text), named = with_batch(call, 3)
    assert torch.equal(nested["a"], X[[0, 1, 0]])
    assert nested["b"].ndim == 0
    assert text == "text"
    assert torch.equal(named["c"], X[[0, 0, 0]])
    assert with_batch(((torch.zeros(0, 2),), {}), 3)[0][0].shape == (0, 2)


def test_other_sizes_of_other_axes() -> None:
    ((taken,), _) = resized(((X,), {}), [{1: 5}])
    assert torch.equal(taken, X[:, [0, 1, 2, 0, 1]])


def test_file_is_compared_at_each_size(exported: Exported) -> None:
    call: Arguments = ((exported.example,), {})
    path = exported.done.path
    assert labels(compared(exported.model, path, call, [{}])) == ["output"]
    found = compared(exported.model, path, call, [{0: "batch"}])
    assert labels(found) == ["output, example's batch", "output, batch 1", "output, batch 3"]
    assert found.input_sets == 9
    one: Arguments = ((exported.example[:1],), {})
    found = compared(exported.model, path, one, [{0: "batch"}])
    assert labels(found) == ["output, example's batch", "output, batch 3"]


def test_sizes_the_model_does_not_take_are_left_out(tmp_path: Path) -> None:
    model = Counting().eval()
    path = tmp_path / "net.onnx"
    bnfuse.export_onnx(model, path, (X,), dynamic_batch=False)
    assert labels(compared(model, path, ((X,), {}), [{0: "batch"}])) == ["output"]


def test_all_open_axes_grow(tmp_path: Path) -> None:
    model = nn.Conv2d(3, 4, 3).eval()
    path = tmp_path / "net.onnx"
    x = torch.randn(1, 3, 8, 9, generator=torch.Generator().manual_seed(0))
    done = bnfuse.export_onnx(model, path, (x,), dynamic_shapes={"input": {2: "h", 3: "w"}})
    assert done.verification is not None
    assert labels(done.verification) == ["output, example's batch", "output, twice the size"]
    assert not done.dynamic_batch
    derived = compared(model, path, ((x,), {}), [{2: "h", 3: "h + 1"}])
    assert labels(derived) == ["output"]


def test_file_that_is_wrong_at_another_size_is_noticed(tmp_path: Path) -> None:
    """A file that takes one batch size is said to take any."""
    model = nn.Linear(3, 2).eval()
    path = tmp_path / "net.onnx"
    bnfuse.export_onnx(model, path, (X,), dynamic_batch=False)
    with pytest.raises(RequestError, match=r"^the file cannot run on these inputs \("):
        compared(model, path, ((X,), {}), [{0: "batch"}])
