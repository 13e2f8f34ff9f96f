"""Random models come out of the optimizer equal, and the fuzzer draws what it is meant to draw."""

from __future__ import annotations

import json
import random
import statistics
from collections import Counter
from dataclasses import asdict, replace

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

import bnfuse
from tests.fuzzing.checking import check
from tests.fuzzing.drawing import drawn_program
from tests.fuzzing.program import Program
from tests.fuzzing.recording import PASSES
from tests.fuzzing.shrinking import as_test, runs, shrunk

PROGRAMS = st.randoms(use_true_random=False).map(drawn_program)
MANY = [drawn_program(random.Random(f"model {number}")) for number in range(80)]
TWO_NORMS = Program(
    inputs=((2, 3, 5, 6), (2, 3, 5, 6)),
    layers=(
        ("conv", "nn.Conv2d(3, 3, 3, padding=1, bias=False)"),
        ("norm", "nn.BatchNorm2d(3, eps=0.1)"),
        ("other", "nn.BatchNorm2d(3)"),
    ),
    ties=(),
    steps=(
        ("conv", "v1 = self.conv(x0)"),
        ("batch norm", "v2 = self.norm(v1)"),
        ("sigmoid", "v3 = v2.sigmoid()"),
        ("write", "v3 += x1"),
        ("batch norm", "v4 = self.other(v3)"),
    ),
    result="(v4, v3)",
)


@settings(
    max_examples=150,
    derandomize=True,
    deadline=None,
    database=None,
    phases=(Phase.generate,),  # what fails is made smaller by the steps of its program
    suppress_health_check=list(HealthCheck),
)
@given(PROGRAMS)
def test_a_random_model_stays_equal(program: Program) -> None:
    program = replace(program, checked=program.seed % 4 == 0)  # checks of rewrites take their time
    if check(program, twice=program.seed % 3 == 0).wrong:
        small = shrunk(program)
        pytest.fail("\n".join([*check(small).wrong, as_test(small)]))


def test_models_are_as_large_and_as_varied_as_they_are_meant_to_be() -> None:
    assert statistics.median(len(program.steps) for program in MANY) >= 14
    operations = Counter(operation for program in MANY for operation, _ in program.steps)
    assert len(operations) > 70
    assert operations["conv"] > 150


def test_most_norms_go_and_every_pass_rewrites_something() -> None:
    outcomes = [check(replace(program, checked=False), twice=False) for program in MANY]
    assert not any(outcome.wrong for outcome in outcomes)
    reports = [outcome.report for outcome in outcomes if outcome.report]
    gone = sum(len(made.folded) + len(made.merged) for made in reports)
    assert gone >= 0.6 * sum(made.total for made in reports)
    rewrites = sum((outcome.rewrites for outcome in outcomes), Counter())
    assert not [name for name in PASSES if rewrites[name] < 3]


def test_all_drawn_models_run() -> None:
    assert all(runs(program) for program in MANY)


def test_a_drawn_model_is_the_same_each_time() -> None:
    assert drawn_program(random.Random("model 3")) == MANY[3]
    one, other = (MANY[3].build().state_dict() for _ in range(2))
    assert list(one) == list(other)
    assert all(torch.equal(one[key], other[key]) for key in one)


def test_a_program_survives_json() -> None:
    for program in MANY[:10]:
        assert Program.from_dict(json.loads(json.dumps(asdict(program)))) == program


def test_a_wrong_output_is_noticed_and_made_smaller(monkeypatch: pytest.MonkeyPatch) -> None:
    def off(model: torch.nn.Module, *_: object, **__: object) -> torch.nn.Module:
        made = real(model)
        for name, parameter in made.named_parameters():
            if name.endswith("conv.bias"):
                parameter.data += 1e-7
        return made

    real = bnfuse.optimize
    assert check(TWO_NORMS).wrong == []
    monkeypatch.setattr(bnfuse, "optimize", off)
    assert check(TWO_NORMS).kinds == {"output"}
    small = shrunk(TWO_NORMS)
    assert [text for _, text in small.steps] == ["v1 = self.conv(x0)"]
    assert small.inputs == ((1, 3, 5, 6),)
    assert '"v1 = self.conv(x0)"' in as_test(small)


def test_a_crash_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def crash(*_: object, **__: object) -> torch.nn.Module:
        raise ValueError("no")

    monkeypatch.setattr(bnfuse, "optimize", crash)
    assert check(TWO_NORMS).wrong == ["crash: optimize raised ValueError: no"]


def test_a_second_optimization_that_breaks_calls_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(*_: object) -> None:
        raise bnfuse.AssumptionError("no", "norm")

    def broken(model: torch.nn.Module, *given: object, **named: object) -> torch.nn.Module:
        made = real(model)
        if hasattr(model, "_bnfuse_report"):
            made.register_forward_pre_hook(refuse)
        return made

    real = bnfuse.optimize
    monkeypatch.setattr(bnfuse, "optimize", broken)
    assert check(TWO_NORMS).wrong == ["again, call: raised AssumptionError: no"]


def test_a_changed_model_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    def careless(model: torch.nn.Module, *_: object, **__: object) -> torch.nn.Module:
        made = real(model)
        model.conv.weight.data *= 2.0  # type: ignore[operator, union-attr]  # a tensor
        return made

    real = bnfuse.optimize
    monkeypatch.setattr(bnfuse, "optimize", careless)
    assert "changed" in check(TWO_NORMS).kinds


def test_results_in_half_precision_are_held_to_its_rounding() -> None:
    for dtype in ("float32", "mixed_float16", "mixed_bfloat16"):
        assert check(replace(TWO_NORMS, dtype=dtype)).wrong == []


def test_a_call_that_the_model_refuses_and_the_optimized_one_takes_is_noticed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def careless(model: torch.nn.Module, *_: object, **__: object) -> torch.nn.Module:
        made = real(model)
        assert isinstance(made, torch.fx.GraphModule)
        for node in made.graph.nodes:
            if node.target is torch._assert:
                made.graph.erase_node(node)
        made.recompile()
        return made

    real = bnfuse.optimize
    asserts = ("assertion", "torch._assert(x0.ndim == 4, 'rank')")
    program = replace(TWO_NORMS, steps=(asserts, ("conv", "v1 = self.conv(x0)")), result="v1")
    assert check(program).wrong == []
    monkeypatch.setattr(bnfuse, "optimize", careless)
    assert check(program).wrong == ["assertion: rank: did not raise rank"]
