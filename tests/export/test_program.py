"""Exporting a module as a program, with sizes left open."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.errors import ExportError
from bnfuse.export.program import Captured, captured, quiet
from tests.support import ready

if TYPE_CHECKING:
    from torch import Tensor

    from bnfuse.validation.inputs import Arguments


class Specialized(nn.Module):
    """A model whose code for one sample is another than for several."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.bn = nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        x = self.bn(self.conv(x))
        return x.squeeze(0).unsqueeze(0) if x.shape[0] == 1 else x


class Several(nn.Module):
    """A model with a nested argument and a keyword."""

    def forward(self, pair: dict[str, Tensor], *, scale: Tensor) -> Tensor:
        return pair["a"] * scale + pair["b"]


class Values(nn.Module):
    """A model whose result has a size that depends on values."""

    def forward(self, x: Tensor) -> Tensor:
        return x if float(x.sum()) > 0 else x.neg()


def program_of(model: nn.Module, *args: Tensor, **options: object) -> Captured:
    """Capture a model for a call."""
    call: Arguments = (args, {})
    return captured(model, call, dynamic_batch=True, **options)  # type: ignore[arg-type]  # few


@pytest.mark.parametrize("batch", [1, 2])
def test_batch_is_open_whatever_the_example_has(batch: int) -> None:
    model = bnfuse.optimize(ready(nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))))
    found = program_of(model, torch.randn(batch, 3, 6, 6, dtype=torch.float64))
    assert [list(axes) for axes in found.open_axes] == [[0]]
    assert found.has_open_batch
    run = found.program.module()
    assert [run(torch.randn(n, 3, 6, 6).double()).shape[0] for n in (1, 2, 5)] == [1, 2, 5]


def test_code_for_one_sample_does_not_fix_the_batch() -> None:
    model = bnfuse.optimize(ready(Specialized()))
    found = program_of(model, torch.randn(1, 3, 6, 6).double(), smallest_batches=(1, 2))
    assert found.has_open_batch


def test_batch_of_every_tensor_is_open() -> None:
    call: Arguments = (({"a": torch.ones(2, 4), "b": torch.ones(2, 4)},), {"scale": torch.ones(())})
    found = captured(Several().eval(), call, dynamic_batch=True)
    assert [list(axes) for axes in found.open_axes] == [[0], [0], []]
    fixed = captured(Several().eval(), call, dynamic_batch=False)
    assert fixed.open_axes == ({}, {}, {})
    assert not fixed.has_open_batch
    assert fixed.dynamic_shapes is None


def test_sizes_are_open_by_name() -> None:
    model = nn.Conv2d(3, 4, 3).eval()
    shapes = {"input": {2: "height", 3: "width"}}
    found = program_of(model, torch.randn(1, 3, 8, 9), dynamic_shapes=shapes)
    assert [list(axes) for axes in found.open_axes] == [[2, 3]]
    assert not found.has_open_batch
    assert found.dynamic_shapes == shapes


def test_sizes_that_cannot_be_open_are_refused() -> None:
    shapes = {"input": {1: "channels"}}
    pattern = (
        r"torch\.export cannot follow Conv2d with dynamic_shapes=\{'input': \{1: 'channels'\}\} "
        r"\(UserError: [^\n]+\): torch\.export\.draft_export\(model, args\) shows what is in its "
        r"way\."
    )
    with pytest.raises(ExportError, match=f"^{pattern}$"):
        program_of(nn.Conv2d(3, 4, 3).eval(), torch.randn(1, 3, 8, 9), dynamic_shapes=shapes)


def test_module_that_no_exporter_follows() -> None:
    start = re.escape("torch.export cannot follow Values (GuardOnDataDependentSymNode: ")
    with pytest.raises(ExportError, match=f"^{start}"):
        program_of(Values().eval(), torch.ones(2, 3))


def test_program_says_nothing_of_where_it_was_made() -> None:
    found = program_of(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval(), torch.ones(1, 3, 5, 5))
    assert found.program.example_inputs is None
    notes = {note for node in found.program.graph.nodes for note in node.meta}
    assert "nn_module_stack" in notes
    assert notes.isdisjoint({"stack_trace", "from_node", "source_fn_stack"})


def test_quiet_puts_logging_back(caplog: pytest.LogCaptureFixture) -> None:
    import logging
    import warnings

    before = logging.root.manager.disable
    with quiet():
        logging.getLogger("torch").error("nobody reads this")
        warnings.warn("nor this", stacklevel=1)
    assert logging.root.manager.disable == before
    assert caplog.records == []
