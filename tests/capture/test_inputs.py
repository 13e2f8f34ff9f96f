"""Which inputs are containers."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from torch import nn

from bnfuse.capture.inputs import takes_inputs_apart
from bnfuse.capture.tracer import ModelTracer

if TYPE_CHECKING:
    from collections.abc import Callable


class Running(nn.Module):
    """Runs a function."""

    def __init__(self, run: Callable[..., object]) -> None:
        super().__init__()
        self.run = run

    def forward(self, x: object) -> object:
        return self.run(x)


@pytest.mark.parametrize(
    ("run", "apart"),
    [
        (lambda x: x["image"], True),
        (lambda x: x[0], True),
        (lambda x: x.image, True),
        (lambda x: x.get("image"), True),
        (lambda x: x[:, 0], False),
        (lambda x: x.shape, False),
        (lambda x: x.relu() + x.T, False),
    ],
)
def test_keys_and_attributes_that_tensors_do_not_have(
    run: Callable[..., object], apart: bool
) -> None:
    assert takes_inputs_apart(ModelTracer().trace(Running(run))) is apart
