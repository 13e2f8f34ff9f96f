"""What a step leaves behind, and how a decline is said."""

from __future__ import annotations

import torch
from torch import nn

from bnfuse.moves.step import Moved, Traveller
from tests.support import program_of, sequential


def test_a_step_without_anything_is_an_end() -> None:
    assert Moved() == Moved((), (), ())


def test_a_decline_names_the_layer() -> None:
    program = program_of(sequential(nn.Conv2d(3, 4, 1)))
    traveller = Traveller(program, program.shapes, "norm", frozenset({torch.float32}))
    found = traveller.decline("zero-padding", "conv")
    assert found.code == "zero-padding"
    assert found.why.startswith("What reads the result of norm is conv")
    assert traveller.is_norm
