"""Removing operations that return their input."""

from __future__ import annotations

import pytest
import torch
from torch import fx, nn

from bnfuse.graph import Program
from bnfuse.passes import PassReport, run_pass
from bnfuse.passes.eliminate_identities import EliminateIdentities
from tests.support import noise


def run(model: nn.Module) -> tuple[fx.GraphModule, PassReport]:
    """Trace a model and run the pass."""
    program = Program(model, fx.Tracer().trace(model))
    result = run_pass(program, EliminateIdentities())
    return fx.GraphModule(model, program.graph), result


@pytest.mark.parametrize(
    ("layer", "rank"),
    [
        (nn.Identity(), 2),
        (nn.Dropout(), 2),
        (nn.Dropout1d(), 3),
        (nn.Dropout2d(), 4),
        (nn.Dropout3d(), 5),
        (nn.AlphaDropout(), 2),
    ],
    ids=lambda value: type(value).__name__,
)
def test_fires(layer: nn.Module, rank: int) -> None:
    model = nn.Sequential(nn.ReLU(), layer, nn.Sigmoid()).eval()
    module, result = run(model)
    assert [(done.name, done.into) for done in result.applied] == [("1", None)]
    assert [node.op for node in module.graph.nodes].count("call_module") == 2
    x = noise(*[2] * rank)
    assert torch.equal(module(x), model(x))


class Functional(nn.Module):
    """``F.dropout`` with what it is told."""

    def __init__(self, **options: object) -> None:
        super().__init__()
        self.options = options

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.dropout(x, 0.5, **self.options).relu()  # type: ignore[arg-type]  # as told


def test_fires_on_a_function_that_is_told_so() -> None:
    _, result = run(Functional(training=False))
    assert len(result.applied) == 1


def test_declines_dropout_by_function_with_its_default() -> None:
    """``F.dropout`` drops by default, in a model in eval mode too."""
    _, result = run(Functional())
    assert [d.reason.code for d in result.declined] == ["training-mode"]


def test_declines_dropout_left_in_training_mode() -> None:
    model = nn.Sequential(nn.Dropout()).eval()
    model[0].train()
    _, result = run(model)
    assert [d.reason.code for d in result.declined] == ["training-mode"]


def test_declines_hooked() -> None:
    model = nn.Sequential(nn.Identity(), nn.ReLU()).eval()
    model[0].register_forward_hook(lambda _m, _a, out: out + 1)
    _, result = run(model)
    assert [d.reason.code for d in result.declined] == ["hooked"]


def test_a_second_time_changes_nothing() -> None:
    module, _ = run(nn.Sequential(nn.ReLU(), nn.Identity(), nn.Sigmoid()).eval())
    before = str(module.graph)
    program = Program(module, module.graph)
    assert not run_pass(program, EliminateIdentities()).modified
    assert str(program.graph) == before
