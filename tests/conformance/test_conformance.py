"""Every case, with and without example inputs: right, harmless, and done as far as promised."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

import bnfuse
from tests.conformance.collection import CASES, IDLE
from tests.conformance.compare import differences, kernels, outcome_differences, run
from tests.conformance.snapshot import snapshot, storages

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from tests.conformance.case import Call, Case, Expect

ACCEPTED = [case for case in CASES if not case.refused]
REFUSED = [case for case in CASES if case.refused]
EXAMPLE_CALLS = 2


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> Iterator[None]:
    """The models are tiny: threads would cost more than they bring."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def each(cases: Sequence[Case]) -> pytest.MarkDecorator:
    return pytest.mark.parametrize("case", [pytest.param(c, id=c.name) for c in cases])


def optimized(case: Case, model: nn.Module, *, examples: bool) -> nn.Module:
    call = case.example
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(11)  # not the seed of the calls: nothing drawn here may matter there
        if examples:
            return bnfuse.optimize(model, call.args, dict(call.kwargs))
        return bnfuse.optimize(model)


def calls(case: Case) -> tuple[Call, ...]:
    """Return fresh arguments of all calls, the first of them twice: the second one may differ."""
    return (*(case.example for _ in range(EXAMPLE_CALLS)), *case.more())


def assert_equal(case: Case, fused: nn.Module, *, examples: bool) -> None:
    """Make the same calls of a fresh unfused model and of the optimized one, and compare."""
    reference = case.build()
    for grad in case.grad_modes:
        for number, (ours, theirs) in enumerate(zip(calls(case), calls(case), strict=True)):
            wanted = run(reference, ours, case, grad=grad)
            got = run(fused, theirs, case, grad=grad)
            may_refuse = case.may_refuse and not (examples and number < EXAMPLE_CALLS)
            if may_refuse and isinstance(got.error, bnfuse.AssumptionError):
                continue
            found = outcome_differences(wanted, got, case.rtol)
            assert not found, f"call {number}, grad mode {grad}: {'; '.join(found)}"
    for name in case.watch:
        wanted_value, got_value = (operator.attrgetter(name)(m) for m in (reference, fused))
        found = differences(wanted_value, got_value, case.rtol, name)
        assert not found, "; ".join(found)


@pytest.mark.parametrize("examples", [False, True], ids=["blind", "examples"])
@each(ACCEPTED)
def test_outputs_are_those_of_the_unfused_model(case: Case, examples: bool) -> None:
    fused = optimized(case, case.build(), examples=examples)
    assert_equal(case, fused, examples=examples)


@pytest.mark.parametrize("examples", [False, True], ids=["blind", "examples"])
@each(ACCEPTED)
def test_the_given_model_is_untouched(case: Case, examples: bool) -> None:
    model = case.build()
    before = snapshot(model)
    fused = optimized(case, model, examples=examples)
    assert snapshot(model) == before, "optimize changed the model"
    shared = storages(model) & storages(fused)
    assert not shared or case.by_reference, "the optimized model shares memory with the model"
    run(fused, case.example, case)
    assert snapshot(model) == before, "a call of the optimized model changed the model"


def _outcomes() -> list[Any]:
    """Give the cases to look at, blind where their outcome does not need examples."""
    marks = {True: (pytest.mark.xfail(reason="needs the affine moved through operations"),)}
    return [
        pytest.param(case, examples, id=f"{case.name}-{name}", marks=marks.get(case.reach, ()))
        for case in ACCEPTED
        for examples, name in ((False, "blind"), (True, "examples"))
        if examples or not case.sized
    ]


@pytest.mark.parametrize(("case", "examples"), _outcomes())
def test_outcome(case: Case, examples: bool) -> None:
    fused = optimized(case, case.build(), examples=examples)
    wanted = (case.expect, *case.also_right)
    complaints = [_complaint(case, fused, expect) for expect in wanted]
    assert "" in complaints, complaints[0]


def _complaint(case: Case, fused: nn.Module, expect: Expect) -> str:
    """Return how the outcome differs from what is expected, or nothing."""
    told = bnfuse.report(fused)
    gone = len(told.folded) + len(told.merged)
    kept = sorted(str(row.reason) for row in told.kept)
    if expect.gone is not None and (gone, kept) != (expect.gone, sorted(expect.kept)):
        return f"{gone} gone, kept {kept} instead of {expect.gone} gone, kept {sorted(expect.kept)}"
    ran = kernels(fused, case).count if expect.ops else {}
    over = {name: ran[name] for name, most in expect.ops.items() if ran[name] > most}
    return f"still runs {over} times instead of {dict(expect.ops)}" if over else ""


@each(ACCEPTED)
def test_each_call_site_is_in_one_list(case: Case) -> None:
    told = bnfuse.report(optimized(case, case.build(), examples=False))
    rows = [(row.name, row.site) for row in (*told.folded, *told.merged, *told.kept)]
    assert len(set(rows)) == len(rows), "a call site is listed twice"
    if case.expect.gone is not None:
        assert len(rows) == case.expect.gone + len(case.expect.kept)
    for row in told.kept:
        assert row.reason
        assert row.why
        assert row.remedy
    for row in (*told.folded, *told.merged):
        assert row.reason is None


COUNTED = [case for case in ACCEPTED if case.once and case.expect.gone is not None]


@each([case for case in COUNTED if case.name not in IDLE])
def test_the_report_is_true(case: Case) -> None:
    """As many batch norms fewer run as the report says are gone."""
    fused = optimized(case, case.build(), examples=True)
    told = bnfuse.report(fused)
    before, after = kernels(case.build(), case).norms, kernels(fused, case).norms
    assert before - after == len(told.folded) + len(told.merged)


@each(ACCEPTED)
def test_optimizing_again_changes_nothing_more(case: Case) -> None:
    once = optimized(case, case.build(), examples=False)
    twice = optimized(case, once, examples=False)
    assert_equal(case, twice, examples=False)
    first, second = bnfuse.report(once), bnfuse.report(twice)
    assert len(second.folded) == len(first.folded)
    assert len(second.merged) == len(first.merged)
    assert [row.name for row in second.kept] == [row.name for row in first.kept]


@each([case for case in ACCEPTED if case.also is not None])
def test_further_checks(case: Case) -> None:
    assert case.also is not None
    model = case.build()
    with torch.random.fork_rng(devices=[]):
        case.also(model, optimized(case, model, examples=False))


@each(REFUSED)
def test_refused(case: Case) -> None:
    model = case.build()
    before = snapshot(model)
    with pytest.raises(bnfuse.BnfuseError):
        bnfuse.optimize(model)
    assert snapshot(model) == before
