"""Checked optimization: defects cost the folds that they are in, and nothing else changes."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse.moves import weights
from bnfuse.ops.linear import absorb_after
from tests.regions.support import One
from tests.support import noise, ready, relative_error, sequential

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor


def blocks(channels: int = 4) -> nn.Sequential:
    """Return three blocks, each with a batch norm that can be folded."""
    made: list[nn.Module] = []
    for _ in range(3):
        made += [nn.Conv2d(channels, channels, 3), nn.BatchNorm2d(channels), nn.ReLU()]
    return sequential(*made)


X = noise(2, 4, 11, 9)
DEFECTS: dict[str, Callable[..., tuple[Tensor, Tensor]]] = {
    "no bias": lambda weight, bias: (weight, torch.zeros_like(bias)),
    "wrong axis": lambda weight, bias: (weight.transpose(0, 1), bias),
    "a little": lambda weight, bias: (weight * (1 + 1e-7), bias),
    "one channel": lambda weight, bias: (weight, bias.clone().index_fill_(0, torch.tensor(3), 0)),
    "flipped": lambda weight, bias: (weight.flip(-1), bias),
}


def break_fold(monkeypatch: pytest.MonkeyPatch, defect: Callable[..., Any], *names: str) -> None:
    """Make the fold behind some layers wrong."""

    def absorbed(call: Any, affine: Any) -> Any:
        made = absorb_after(call, affine)
        return defect(*made) if call.name in names else made

    monkeypatch.setattr(weights, "absorb_after", absorbed)


@pytest.mark.parametrize("defect", DEFECTS.values(), ids=list(DEFECTS))
def test_a_defect_of_one_fold_costs_that_fold(
    defect: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = blocks()
    break_fold(monkeypatch, defect, "3")
    fused = bnfuse.optimize(model)
    made = bnfuse.report(fused)
    assert [(row.name, row.reason) for row in made.kept] == [("4", "check-failed")]
    assert [row.name for row in made.folded] == ["1", "7"]
    assert relative_error(fused(X), model(X)) < 1e-12
    wrong = bnfuse.optimize(model, validate=False)
    assert len(bnfuse.report(wrong).folded) == 3
    assert relative_error(wrong(X), model(X)) > 1e-9


def test_a_defect_of_every_fold_leaves_the_model_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    model = blocks()
    break_fold(monkeypatch, DEFECTS["no bias"], "0", "3", "6")
    fused = bnfuse.optimize(model)
    kept = bnfuse.report(fused).kept
    assert [row.reason for row in kept] == ["check-failed"] * 3
    assert "relative error" in kept[0].why
    assert torch.equal(fused(X), model(X))


def test_a_part_that_no_graph_surrounds_is_checked_too(monkeypatch: pytest.MonkeyPatch) -> None:
    class Outer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = blocks()

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x) if x.sum() > 0 else self.inner(-x)

    model = ready(Outer())
    break_fold(monkeypatch, DEFECTS["no bias"], "3")
    fused = bnfuse.optimize(model)
    made = bnfuse.report(fused)
    assert [(row.name, row.reason) for row in made.kept] == [("inner.4", "check-failed")]
    assert [row.name for row in made.folded] == ["inner.1", "inner.7"]
    assert relative_error(fused(X), model(X)) < 1e-12


def test_errors_are_small_numbers_and_none_where_nothing_is_checked() -> None:
    model = blocks().float()
    made = bnfuse.report(bnfuse.optimize(model))
    assert all(row.error is not None and row.error < 1e-13 for row in made.folded)
    assert made.check_seconds is not None
    assert 0 < made.check_seconds < 60
    unchecked = bnfuse.report(bnfuse.optimize(model, validate=False))
    assert [row.error for row in unchecked.folded] == [None] * 3
    assert unchecked.check_seconds is None


def test_without_inputs_a_rewrite_is_not_checkable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfuse.regions.check.guessed_inputs", lambda *_: iter(()))
    monkeypatch.setattr("bnfuse.regions.check.observed", lambda *_: {})
    model = blocks()
    fused = bnfuse.optimize(model)
    assert [row.reason for row in bnfuse.report(fused).kept] == ["not-checkable"] * 3
    assert torch.equal(fused(X), model(X))
    assert bnfuse.report(bnfuse.optimize(model, validate=False)).kept == ()


def test_an_example_makes_up_for_guesses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bnfuse.regions.check.guessed_inputs", lambda *_: iter(()))
    made = bnfuse.report(bnfuse.optimize(blocks(), (X,)))
    assert len(made.folded) == 3


def cancelling() -> nn.Module:
    """Return a model whose fold is right and far off in single digits: a mean of 1e9 cancels."""
    model = sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4))
    model[1].get_buffer("running_mean").mul_(1e9)
    model[0].get_parameter("bias").data.mul_(1e9)
    return model


def dead() -> nn.Module:
    """Return one with channels that a rectifier sees as 0, up to rounding."""
    layers = nn.Conv2d(4, 64, 3), nn.BatchNorm2d(64), nn.ReLU(), nn.Conv2d(64, 3, 1)
    model = sequential(*layers)
    with torch.no_grad():
        model[0].get_parameter("weight")[::2] = 0
        model[1].get_buffer("running_mean").copy_(model[0].get_parameter("bias"))
        model[1].get_parameter("bias").zero_()
    return model


@pytest.mark.parametrize("make", [cancelling, dead])
def test_rounding_is_no_defect(make: Callable[[], nn.Module]) -> None:
    made = bnfuse.report(bnfuse.optimize(make()))
    assert made.kept == ()
    assert len(made.folded) == 1


def test_complex_constants_are_compared_whole() -> None:
    def run(m: Any, x: Any) -> Any:
        return (m.b(m.a(x)) * torch.polar(m.size, m.angle)).real

    model = ready(
        One(run, a=nn.Conv2d(4, 3, 3), b=nn.BatchNorm2d(3), size=noise(7), angle=noise(7))
    )
    model.get_buffer("size").abs_()
    fused = bnfuse.optimize(model)
    assert bnfuse.report(fused).kept == ()
    assert relative_error(fused(X), model(X)) < 1e-12


def test_layers_in_training_mode_keep_their_statistics() -> None:
    """One inside a region is run in the check, which is to leave no trace in the result."""

    def run(m: Any, x: Any) -> Any:
        y = m.first(x)
        return m.last(torch.cat([y, m.between(m.a(y))], 1))

    parts = {"first": nn.BatchNorm2d(4), "a": nn.Conv2d(4, 4, 1), "last": nn.Conv2d(8, 5, 1)}
    model = ready(One(run, **parts, between=nn.BatchNorm2d(4)))
    model.get_submodule("between").train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    fused = bnfuse.optimize(model)
    assert [row.name for row in bnfuse.report(fused).folded] == ["first"]
    for key, value in fused.state_dict().items():
        assert not key.startswith("between") or torch.equal(value, before[key])
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_global_state_stays_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    def seeded(_: int) -> None:
        pytest.fail("the generators of other devices are not ours")

    model = cancelling()
    torch.manual_seed(5)
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded)
    random, threads = torch.get_rng_state(), torch.get_num_threads()
    bnfuse.optimize(model)
    assert torch.equal(torch.get_rng_state(), random)
    assert torch.get_default_dtype() is torch.float32
    assert torch.is_grad_enabled()
    assert torch.get_num_threads() == threads
    with torch.overrides.TorchFunctionMode():
        assert torch._C._len_torch_function_stack() == 1


@pytest.mark.parametrize(
    "around",
    [
        torch.inference_mode(),
        torch.autocast("cpu", dtype=torch.bfloat16),
        torch.device("meta"),
        torch.enable_grad(),
    ],
    ids=["inference", "autocast", "default device", "gradients"],
)
def test_checks_hold_whatever_stands_around_them(around: Any) -> None:
    model = blocks().float()
    with around:
        made = bnfuse.report(bnfuse.optimize(model))
    assert made.kept == ()
    assert all(row.error is not None and row.error < 1e-13 for row in made.folded)
