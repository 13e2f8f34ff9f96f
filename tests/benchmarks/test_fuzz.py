"""The benchmark of random models: what it counts, keeps and finds too little."""

from __future__ import annotations

import io
import random
from typing import TYPE_CHECKING, Any

import pytest
from rich.console import Console

from benchmarks import fuzz
from benchmarks.fuzz import count, empty_row, look_again, print_counts, row_of, save_row
from benchmarks.fuzz_table import LEAST_TIMES, as_table, counted, missed, summed
from benchmarks.storage import load
from bnfuse.passes.merge_chains import MergeChains
from tests.fuzzing.checking import Outcome, check
from tests.fuzzing.drawing import drawn_program
from tests.fuzzing.listed import LISTED
from tests.fuzzing.recording import PASSES
from tests.fuzzing.test_recording import ROW

if TYPE_CHECKING:
    from pathlib import Path


def full_row(seed: int = 1) -> dict[str, Any]:
    """Return the row of a seed whose models exercised all there is, just often enough."""
    row = empty_row(seed, without_checks=False)
    row["rewrites"].update(dict.fromkeys(PASSES, LEAST_TIMES))
    names = [name for names in LISTED.values() for name in names]
    row["exercised"].update(dict.fromkeys(names, LEAST_TIMES))
    row["lengths"].update({"12": 30, "11": 30, "14": 2})
    row["kept"].update({"no-linear-producer": 40})
    return row | {"graphs": 62, "folded": 50, "merged": 10}


def printed(rows: list[dict[str, Any]]) -> tuple[str, bool]:
    console = Console(record=True, width=120, file=io.StringIO())
    is_enough = print_counts(rows, console)
    return console.export_text(), is_enough


def test_what_is_enough_is_said_to_be() -> None:
    assert missed(summed([full_row()])) == []
    text, is_enough = printed([full_row()])
    assert is_enough
    assert "below" not in text


@pytest.mark.parametrize("name", [*PASSES, "nn.ConvTranspose3d", "mixed_bfloat16", "v *= v"])
def test_what_is_too_rare_is_said_plainly(name: str) -> None:
    row = full_row()
    kind = "rewrites" if name in PASSES else "exercised"
    row[kind][name] -= 1
    assert missed(summed([row])) == [f"1 rows below 200: {name} 199"]
    text, is_enough = printed([row])
    assert not is_enough
    marked = [line.split() for line in text.splitlines() if line.rstrip().endswith("below 200")]
    assert [line[-3:] for line in marked] == [["199", "below", "200"]]


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"lengths": {"11": 3}}, "operations in one, median: 11, below 12"),
        ({"folded": 49}, "batch norms gone: 59.6%, below 60%"),
        ({"wrong_at": {"7": ["output"]}}, "model 1:7 is wrong: output"),
    ],
)
def test_what_else_falls_short_is_said(changed: dict[str, Any], told: str) -> None:
    assert missed(summed([full_row() | changed])) == [told]


def test_seeds_are_counted_together() -> None:
    one, other = full_row(1), full_row(2)
    for row in (one, other):
        row["rewrites"]["merge-chains"] = 150
    assert missed(summed([one])) == ["1 rows below 200: merge-chains 150"]
    assert missed(summed([one, other])) == []
    assert ("passes", "merge-chains", 300) in counted(summed([one, other]))


def counts_of_a_row_of_layers() -> dict[str, Any]:
    row = full_row()
    row["rewrites"]["merge-chains"] = LEAST_TIMES - 1
    count(row, ROW, check(ROW))
    return summed([row])


def test_a_pass_that_never_rewrites_anything_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    assert missed(counts_of_a_row_of_layers()) == []
    monkeypatch.setattr(MergeChains, "match", lambda *_: None)
    assert missed(counts_of_a_row_of_layers()) == ["1 rows below 200: merge-chains 199"]


def test_a_model_is_counted() -> None:
    row = empty_row(1, without_checks=False)
    count(row, ROW, check(ROW))
    assert (row["graphs"], row["folded"], row["lengths"]["5"]) == (1, 2, 1)
    assert row["exercised"]["nn.Conv2d"] == 2
    assert row["rewrites"]["merge-chains"] == 1


def test_seeds_that_run_side_by_side_keep_their_rows(tmp_path: Path) -> None:
    path = tmp_path / "fuzz.json"
    one, other = (row_of(path, seed, without_checks=False) for seed in (1, 2))
    save_row(path, one | {"graphs": 5})
    save_row(path, other | {"graphs": 6})
    save_row(path, one | {"graphs": 7})
    assert [(row["seed"], row["graphs"]) for row in load(path)] == [(1, 7), (2, 6)]
    assert row_of(path, 2, without_checks=False)["graphs"] == 6
    assert row_of(path, 2, without_checks=True)["graphs"] == 0


def test_models_that_were_wrong_are_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    row = full_row() | {"wrong_at": {"3": ["output"], "4": ["crash"]}}
    mended = drawn_program(random.Random("1:3"))

    def looked_at(program: object) -> Outcome:
        return Outcome([] if program == mended else ["crash: it is wrong"])

    monkeypatch.setattr(fuzz, "check", looked_at)
    look_again(row)
    assert row["wrong_at"] == {"4": ["crash"]}
    assert row["mended"] == [3]
    assert as_table(summed([row])).row_count > len(PASSES)


def test_a_name_in_brackets_is_printed_whole() -> None:
    assert "views: v[slice]" in printed([full_row()])[0]
