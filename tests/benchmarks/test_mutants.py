"""The mistakes made on purpose: each can still be made, and is judged by what notices it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from benchmarks.mutant_list import ALGEBRA, CHECK_OFF, GUARDS, Mutant
from benchmarks.mutants import ROOT, apply, is_noticed

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("mutant", [*ALGEBRA, *GUARDS, CHECK_OFF], ids=lambda m: m.name)
def test_its_source_stands_once(mutant: Mutant) -> None:
    assert (ROOT / mutant.path).read_text().count(mutant.old) == 1
    assert mutant.old != mutant.new


def test_there_are_twenty_and_six() -> None:
    assert (len(ALGEBRA), len(GUARDS)) == (20, 6)


def test_a_source_that_is_gone_is_said(tmp_path: Path) -> None:
    (tmp_path / "one.py").write_text("a = 1\n")
    apply(tmp_path, Mutant("it", "one.py", "a = 1", "a = 2"))
    assert (tmp_path / "one.py").read_text() == "a = 2\n"
    with pytest.raises(ValueError, match=r"'it': its source stands 0 times in one\.py"):
        apply(tmp_path, Mutant("it", "one.py", "a = 1", "a = 2"))


def test_a_mistake_in_the_algebra_has_to_be_noticed_twice() -> None:
    row = {"probe": {"wrong": 0, "undone": {"fold-affine": 1}}, "test": "FAILED one"}
    assert is_noticed(row, is_algebra=True)
    assert not is_noticed({**row, "test": ""}, is_algebra=True)
    unchecked = {**row, "probe": {"wrong": 0, "undone": {}}}
    assert not is_noticed(unchecked, is_algebra=True)
    assert is_noticed(unchecked, is_algebra=False)
    assert not is_noticed({**row, "probe": {"wrong": 1, "undone": {"a": 1}}}, is_algebra=True)
