"""Each rewrite is checked when it is made: wrong ones are found, right ones are not."""

from __future__ import annotations

from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import pytest
import torch
from torch import nn

from bnfuse.regions import PartChecks, RewriteChecks
from tests.regions.support import One, traced
from tests.support import sequential

if TYPE_CHECKING:
    from torch import fx

    from bnfuse.graph import Program
    from bnfuse.validation.inputs import Arguments


def checked(model: nn.Module, names: tuple[str, ...], edit: Any, **options: Any) -> PartChecks:
    """Change a graph by hand, and return the checks that watched it."""
    program, nodes = traced(model)
    checks = PartChecks(RewriteChecks(), "", lambda: None)
    match: Any = SimpleNamespace(nodes=tuple(nodes[n] for n in names), ranks=())
    key = checks.key("by-hand", names[0])
    before = checks.before(program, match, key, **options)
    assert before is not None
    edit(program, nodes)
    checks.after(program, before, key)
    return checks


def negated_twice(program: Program, nodes: dict[str, fx.Node]) -> None:
    with program.graph.inserting_before(nodes["_1"]):
        once = program.graph.call_method("neg", (nodes["_0"],))
        twice = program.graph.call_method("neg", (once,))
    nodes["_1"].args = (twice,)


def another_weight(program: Program, nodes: dict[str, fx.Node]) -> None:
    module: Any = program.module("0")
    module.weight = nn.Parameter(module.weight * (1 + 1e-6))


def layers() -> nn.Sequential:
    return sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).float()


def test_a_right_rewrite_is_right() -> None:
    found = checked(layers(), ("_0", "_1"), negated_twice).checks
    assert found.failed == {}
    assert list(found.made.values()) == [0.0]
    assert found.seconds > 0


@pytest.mark.parametrize(
    ("edit", "complaint"),
    [
        (another_weight, "relative error"),
        (lambda p, n: setattr(n["_1"], "target", "0"), "it cannot run any more (RuntimeError)"),
        (lambda p, n: p.replace(n["_1"], n["_0"]), "relative error"),
        (
            lambda p, n: p.replace(n["_1"], n["input_1"]),
            "shape (2, 3, 5, 6) instead of (2, 4, 3, 4)",
        ),
    ],
)
def test_a_wrong_rewrite_is_found(edit: Any, complaint: str) -> None:
    found = checked(layers(), ("_0", "_1"), edit).checks
    (what,) = found.failed.values()
    assert what.startswith(complaint)
    assert found.failed.keys() == found.made.keys()


def test_reading_another_input_is_found() -> None:
    def edit(program: Program, nodes: dict[str, fx.Node]) -> None:
        nodes["_1"].args = (program.graph.placeholder("late"),)

    found = checked(layers(), ("_0", "_1"), edit).checks
    assert list(found.failed.values()) == ["it reads values that it did not read before"]
    assert list(found.made.values()) == [None]


def test_random_operations_draw_the_same_numbers_before_and_after() -> None:
    """Also where a guess that did not fit has drawn some already."""

    def run(m: Any, x: Any) -> Any:
        return m.a(nn.functional.dropout(x, 0.5, training=True).flatten(1))

    model = One(run, a=nn.Linear(6 * 14 * 14, 2))
    found = checked(model, ("dropout", "flatten", "a"), lambda *_: None).checks
    assert (list(found.made.values()), found.failed) == ([0.0], {})


def test_a_part_without_a_fitting_guess_is_observed() -> None:
    """Also where its inputs are whole numbers."""
    model = One(lambda m, x: m.b(m.a(x.clone())), a=nn.Embedding(5, 6), b=nn.Linear(6, 2))
    program, nodes = traced(model)
    match: Any = SimpleNamespace(nodes=(nodes["clone"], nodes["a"], nodes["b"]), ranks=())
    examples: list[Arguments | None] = [None, ((torch.zeros(2, 3, dtype=torch.int64),), {})]
    for example in examples:
        checks = PartChecks(RewriteChecks(), "", [example].pop)
        before = checks.before(program, match, checks.key("by-hand", "a"))
        assert (before is None) == (example is None)
