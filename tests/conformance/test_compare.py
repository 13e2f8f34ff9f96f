"""The comparison itself has to fail where two models differ."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any, NamedTuple

import pytest
import torch
from torch import nn

from tests.conformance.case import Call, Expect, case
from tests.conformance.compare import Outcome, differences, kernels, outcome_differences, run
from tests.conformance.models import block, image, sample
from tests.conformance.snapshot import snapshot, storages


class Named(NamedTuple):
    first: Any
    second: Any


def nested() -> dict[str, Any]:
    return {"a": [sample(3, 4), (sample(2), None)], "b": Named(3, "word")}


def test_equal_values_do_not_differ() -> None:
    assert differences(nested(), nested(), 1e-9) == []


@pytest.mark.parametrize(
    ("wanted", "got"),
    [
        (sample(3), sample(3) * (1 + 1e-6)),
        (sample(3), sample(3) + torch.tensor([0.0, 0.0, 1e-6])),
        (sample(3), sample(3).float()),
        (sample(3), sample(3)[None]),
        (sample(3), torch.full((3,), torch.nan, dtype=torch.float64)),
        (sample(3), torch.full((3,), torch.inf, dtype=torch.float64)),
        (torch.tensor([1, 2]), torch.tensor([1, 3])),
        (torch.tensor([True]), torch.tensor([False])),
        ([sample(3)], (sample(3),)),
        ((sample(3), 1), Named(sample(3), 1)),
        ({"k": sample(3)}, OrderedDict(k=sample(3))),
        ({"k": 1, "l": 2}, {"l": 2, "k": 1}),
        ({"k": 1}, {"k": 1, "l": 2}),
        ([1, 2], [1]),
        (1, 1.0),
        (1, True),
        ("a", "b"),
        (None, sample(3)),
        (sample(3), None),
    ],
)
def test_what_differs_is_told(wanted: Any, got: Any) -> None:
    assert differences(wanted, got, 1e-9)
    assert differences([0, {"k": wanted}], [0, {"k": got}], 1e-9)


def test_rounding_infinities_and_nan_are_no_difference() -> None:
    odd = torch.tensor([torch.inf, -torch.inf, torch.nan, 1e3])
    assert differences(odd, odd + torch.tensor([0.0, 0.0, 0.0, 1e-4]), 1e-6) == []


def outcome(output: Any, *args: Any, error: Exception | None = None) -> Outcome:
    return Outcome(output, args, {}, error)


def test_errors_are_compared_by_their_type() -> None:
    wanted = outcome(None, error=ValueError("a"))
    assert not outcome_differences(wanted, outcome(None, error=ValueError("b")), 1e-9)
    assert outcome_differences(wanted, outcome(None, error=TypeError("a")), 1e-9)
    assert outcome_differences(wanted, outcome(3), 1e-9)
    assert outcome_differences(outcome(3), wanted, 1e-9)


def test_written_arguments_are_a_difference() -> None:
    assert outcome_differences(outcome(1, sample(3)), outcome(1, sample(3) * 2), 1e-9)


def test_another_sharing_of_memory_is_a_difference() -> None:
    argument, same = sample(3), sample(3)
    assert not outcome_differences(outcome(argument, argument), outcome(same, same), 1e-9)
    assert outcome_differences(outcome(argument, argument), outcome(sample(3), same), 1e-9)
    assert outcome_differences(outcome(sample(3), argument), outcome(same, same), 1e-9)


PLAIN = case("plain", lambda: nn.Sequential(block(), nn.Dropout()), image, Expect(1), "")


def test_a_case_builds_and_runs_the_same_each_time() -> None:
    first, second = (run(PLAIN.build().train(), PLAIN.example, PLAIN) for _ in range(2))
    assert not outcome_differences(first, second, 0.0)
    changed = run(PLAIN.build(), Call((image()[0] + 1e-6,)), PLAIN)
    assert outcome_differences(run(PLAIN.build(), PLAIN.example, PLAIN), changed, 1e-9)


def test_kernels_are_counted() -> None:
    counted = kernels(PLAIN.build(), PLAIN)
    assert (counted.norms, counted.count["convolution"]) == (1, 1)


@pytest.mark.parametrize(
    "disturb",
    [
        lambda model: model[0][0].weight.data[0, 0, 0, 0].add_(1e-9),
        lambda model: model[0][1].train(),
        lambda model: model[0][0].requires_grad_(False),
        lambda model: model[1].register_forward_hook(lambda *_: None),
        lambda model: setattr(model[0], "more", 3),
        lambda model: setattr(model[0], "1", nn.Identity()),
        lambda model: setattr(model[0][0], "weight", nn.Parameter(model[0][0].weight.clone())),
        lambda model: setattr(model[0][0], "stride", (2, 2)),
        lambda model: model[0][1].running_mean.zero_(),
    ],
)
def test_a_snapshot_shows_what_changed(disturb: Any) -> None:
    model = PLAIN.build()
    before = snapshot(model)
    assert snapshot(model) == before
    disturb(model)
    assert snapshot(model) != before


def test_shared_memory_is_found() -> None:
    model: Any = PLAIN.build()
    view = PLAIN.build()
    view.piece = model[0][0].weight.detach()[1:]
    assert storages(model) & storages(view)
    assert not storages(model) & storages(PLAIN.build())
