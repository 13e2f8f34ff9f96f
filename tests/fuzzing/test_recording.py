"""Rewrites are counted for the pass that makes them, in the attempt that is returned."""

from __future__ import annotations

from dataclasses import replace

import pytest
from torch import nn

import bnfuse
from bnfuse.passes import PIPELINE
from bnfuse.passes.fold_affine import FoldAffine
from bnfuse.passes.merge_chains import MergeChains
from tests.fuzzing.checking import check
from tests.fuzzing.program import Program
from tests.fuzzing.recording import PASSES, recorded_rewrites, turns
from tests.support import ready

ROW = Program(
    inputs=((2, 3, 5, 6),),
    layers=(
        ("nothing", "nn.Dropout(0.5)"),
        ("wide", "nn.Conv2d(3, 8, 1)"),
        ("norm", "nn.BatchNorm2d(8)"),
        ("narrow", "nn.Conv2d(8, 3, 1)"),
        ("last", "nn.BatchNorm2d(3)"),
    ),
    ties=(),
    steps=(
        ("dropout", "v1 = self.nothing(x0)"),
        ("conv", "v2 = self.wide(v1)"),
        ("batch norm", "v3 = self.norm(v2)"),
        ("conv", "v4 = self.narrow(v3)"),
        ("batch norm", "v5 = self.last(v4)"),
    ),
    result="v5",
)
MADE = {"eliminate-identities": 1, "fold-affine, turn 1": 2, "merge-chains": 1}


def test_every_turn_of_a_pass_has_its_label() -> None:
    assert turns((MergeChains(), FoldAffine(), FoldAffine())) == (
        "merge-chains",
        "fold-affine, turn 1",
        "fold-affine, turn 2",
    )
    assert len(set(PASSES)) == len(PIPELINE)


@pytest.mark.parametrize("checked", [True, False])
def test_each_rewrite_counts_once_for_its_pass(checked: bool) -> None:
    outcome = check(replace(ROW, checked=checked))
    assert outcome.wrong == []
    assert +outcome.rewrites == MADE


def test_a_pass_that_finds_nothing_counts_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(MergeChains, "match", lambda *_: None)
    without = {name: times for name, times in MADE.items() if name != "merge-chains"}
    assert +check(ROW).rewrites == without


def test_what_was_wrong_in_an_earlier_attempt_is_not_counted(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    wrong = []

    def broken(self: MergeChains, program: object, match: object) -> object:
        wrong.append(match)
        raise RuntimeError("no")

    monkeypatch.setattr(MergeChains, "rewrite", broken)
    with recorded_rewrites() as made:
        fused = bnfuse.optimize(ROW.build())
    assert len(wrong) == 1
    assert len(bnfuse.report(fused).undone) == 1
    assert [words.partition(":")[0] for words in check(ROW).wrong] == ["undone"]  # of no norm
    assert +made == {"eliminate-identities": 1, "fold-affine, turn 1": 2}


def test_nothing_is_counted_afterwards() -> None:
    with recorded_rewrites() as made:
        bnfuse.optimize(ROW.build())
    before = dict(made)
    bnfuse.optimize(ready(nn.Sequential(nn.Conv2d(3, 3, 1), nn.BatchNorm2d(3))))
    assert dict(made) == before
