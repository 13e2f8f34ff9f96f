"""Attempts: what is wrong with one is left out of the next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from bnfuse import attempts
from bnfuse.attempts import Known
from bnfuse.capture import copy_model
from bnfuse.moves import weights
from bnfuse.ops.linear import absorb_after
from bnfuse.regions import PartChecks, RewriteKey
from tests.support import noise, ready, relative_error, sequential

if TYPE_CHECKING:
    from collections.abc import Callable

X = noise(2, 4, 11, 9)


def blocks(count: int) -> nn.Sequential:
    made: list[nn.Module] = []
    for _ in range(count):
        made += [nn.Conv2d(4, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU()]
    return sequential(*made)


def break_folds(monkeypatch: pytest.MonkeyPatch, is_wrong: Callable[[str], bool]) -> None:
    """Make the fold behind some layers forget the bias."""

    def absorbed(call: Any, affine: Any) -> Any:
        weight, bias = absorb_after(call, affine)
        return (weight, bias * 0) if is_wrong(call.name) else (weight, bias)

    monkeypatch.setattr(weights, "absorb_after", absorbed)


@pytest.fixture
def see_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the check of single rewrites find nothing wrong."""

    def after(self: PartChecks, program: Any, before: Any, key: RewriteKey) -> None:
        self.checks.made[key] = None

    monkeypatch.setattr(PartChecks, "after", after)


def kept(model: nn.Module) -> list[tuple[str, str | None]]:
    return [(row.name, row.reason) for row in bnfuse.report(model).kept]


KEY, OTHER = RewriteKey("", "fold-affine", "a"), RewriteKey("", "fold-affine", "b")


def test_what_fails_is_suspected_first_and_refused_when_it_fails_again() -> None:
    once = Known(refused={OTHER: "it was wrong"}).after({KEY: "it is wrong"})
    assert (once.suspects, once.refused) == (frozenset({KEY}), {OTHER: "it was wrong"})
    twice = once.after({KEY: "it is wrong"})
    assert twice.refused == {OTHER: "it was wrong", KEY: "it is wrong"}


@pytest.mark.usefixtures("see_nothing")
@pytest.mark.parametrize("wrong", [["0"], ["6"], ["15"], ["3", "12"]])
def test_the_rewrite_to_blame_for_the_whole_is_found(
    wrong: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = blocks(6)
    break_folds(monkeypatch, lambda name: name in wrong)
    fused = bnfuse.optimize(model, (X,))
    assert kept(fused) == [(str(int(name) + 1), "check-failed") for name in wrong]
    assert len(bnfuse.report(fused).folded) == 6 - len(wrong)
    assert relative_error(fused(X), model(X)) < 1e-12
    seen = bnfuse.optimize(model)  # without an example nothing shows
    assert relative_error(seen(X), model(X)) > 1e-6
    assert kept(seen) == []


@pytest.mark.usefixtures("see_nothing")
def test_bisection_takes_few_comparisons(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[bool] = []
    honest = attempts._verified

    def counted(*args: Any) -> Any:
        outcome = honest(*args)
        calls.append(outcome.passed)
        return outcome

    monkeypatch.setattr(attempts, "_verified", counted)
    break_folds(monkeypatch, lambda name: name == "15")
    bnfuse.optimize(blocks(16), (X[:, :, :4, :4],))
    assert not calls[0]
    assert calls[-1]
    assert len(calls) <= 3 + 4 + 1  # the whole, nothing, the whole again, and log2 of 16 or so


@pytest.mark.usefixtures("see_nothing")
def test_with_too_many_to_blame_the_model_comes_back_as_it_was(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(attempts, "MOST_CULPRITS", 2)
    break_folds(monkeypatch, lambda name: True)
    model = blocks(4)
    fused = bnfuse.optimize(model, (X,))
    assert [reason for _, reason in kept(fused)] == ["check-failed"] * 4
    assert torch.equal(fused(X), model(X))


def test_a_difference_that_no_rewrite_makes_gives_the_model_unfused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is wrong with the copy itself is nobody's fold."""

    def copied(model: nn.Module) -> Any:
        made = copy_model(model)
        if isinstance(made.model, nn.Sequential):
            made.model[0].get_parameter("weight").mul_(1 + changed.pop())
        return made

    model, changed = blocks(3), [0.1, 0.1]  # the optimized one, and that of the trial
    monkeypatch.setattr("bnfuse.attempts.copy_model", copied)
    monkeypatch.setattr(attempts, "_site_in_the_way", lambda *_: None)
    fused = bnfuse.optimize(model, (X,))
    assert changed == []
    assert [reason for _, reason in kept(fused)] == ["check-failed"] * 3
    assert torch.equal(fused(X), model(X))


def test_attempts_come_to_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    """A rewrite that is another one in each attempt is never settled."""
    count = iter(range(1000))

    def after(self: PartChecks, program: Any, before: Any, key: RewriteKey) -> None:
        self.checks.failed[key._replace(site=f"{key.site} {next(count)}")] = "it is another one"

    monkeypatch.setattr(PartChecks, "after", after)
    model = blocks(1)
    fused = bnfuse.optimize(model)
    assert next(count) == attempts.MOST_ATTEMPTS
    assert kept(fused) == [("1", "check-failed")]
    assert torch.equal(fused(X), model(X))


class OtherAxis(nn.Module):
    """Batch norms over the middle axis, whose size is that of the last one."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self.linears = nn.ModuleList(nn.Linear(3, 3) for _ in range(count))
        self.norms = nn.ModuleList(nn.BatchNorm1d(3) for _ in range(count))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for linear, norm in zip(self.linears, self.norms, strict=True):
            x = norm(linear(x)).sin()
        return x


def test_settling_many_axes_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attempts, "MOST_ATTEMPTS", 2)
    fused = bnfuse.optimize(ready(OtherAxis(4)), (noise(2, 3, 3),))
    assert [reason for _, reason in kept(fused)] == ["other-axis"] * 4


def test_a_rewrite_that_raises_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(call: Any, affine: Any) -> Any:
        if call.name == "3":
            raise LookupError("broken")
        return absorb_after(call, affine)

    monkeypatch.setattr(weights, "absorb_after", broken)
    model = blocks(3)
    for validate in (True, False):
        fused = bnfuse.optimize(model, validate=validate)
        assert len(bnfuse.report(fused).folded) == 2
        assert [reason for _, reason in kept(fused)] == ["check-failed"]
        assert "LookupError: broken" in bnfuse.report(fused).kept[0].why
        assert relative_error(fused(X), model(X)) < 1e-12


def test_with_checks_the_example_stays_as_it_is_and_so_does_the_model() -> None:
    model, x = blocks(2), X.clone()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    tensors = [*model.parameters()]
    bnfuse.optimize(model, (x,))
    assert torch.equal(x, X)
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(a is b and a.requires_grad for a, b in zip(tensors, model.parameters(), strict=True))


def test_what_raises_on_the_example_comes_back_unfused(monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(*_: Any, **__: Any) -> None:
        raise RuntimeError("it is a test")

    monkeypatch.setattr("bnfuse.attempts.verify", failing)
    model, x = sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)), noise(2, 3, 5, 5)
    fused = bnfuse.optimize(model, (x,))
    (row,) = bnfuse.report(fused).kept
    assert row.reason == "check-failed"
    assert "it raises RuntimeError: it is a test" in row.why
    assert torch.equal(fused(x), model(x))


class CalledTwice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(torch.relu(self.conv(x))))


def test_a_layer_that_another_call_reads_may_not_change(monkeypatch: pytest.MonkeyPatch) -> None:
    """The region of the rewrite alone would not show it."""
    model, x = ready(CalledTwice()), noise(2, 3, 5, 5)
    monkeypatch.setattr("bnfuse.graph.program.Program.is_only_reader", lambda *_: True)
    fused = bnfuse.optimize(model)
    assert [row.reason for row in bnfuse.report(fused).kept] == ["check-failed"]
    assert torch.equal(fused(x), model(x))
    wrong = bnfuse.optimize(model, validate=False)
    assert relative_error(wrong(x), model(x)) > 0.1
