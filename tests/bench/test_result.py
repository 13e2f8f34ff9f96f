"""Figures of a benchmark, on numbers made by hand."""

from __future__ import annotations

import json

import pytest
import rich.console

from bnfuse.bench import Benchmark, Timing

EAGER = Timing("eager", ((10.0, 12.0, 11.0), (20.0, 22.0, 21.0), (30.0, 31.0, 32.0)))
HALF = Timing("bnfuse", ((5.5, 5.5, 9.0), (10.5, 1.0, 10.5), (15.5, 15.5, 15.5)))
MIXED = Timing("other", ((11.0,) * 3, (42.0,) * 3, (3.1,) * 3), note="a remark")
LEFT_OUT = Timing("onnxruntime", note="it is not installed")


def a_benchmark() -> Benchmark:
    """Return a benchmark of three rows and one that could not run."""
    return Benchmark("Net", {"torch": "2.0", "threads": "2"}, (EAGER, HALF, MIXED), (LEFT_OUT,))


def test_median_is_of_all_calls() -> None:
    assert EAGER.calls == [10.0, 12.0, 11.0, 20.0, 22.0, 21.0, 30.0, 31.0, 32.0]
    assert EAGER.median == 21.0
    assert Timing("even", ((1.0, 2.0), (3.0, 10.0))).median == 2.5


def test_spread_is_the_10th_and_90th_percentile() -> None:
    ten = Timing("ten", (tuple(float(i) for i in range(11)),))
    assert ten.spread == pytest.approx((1.0, 9.0))
    shuffled = Timing("ten", ((10.0, 0.0, 5.0, 3.0), (1.0, 9.0, 2.0, 8.0), (4.0, 7.0, 6.0)))
    assert shuffled.spread == pytest.approx((1.0, 9.0))
    assert Timing("same", ((2.0, 2.0),)).spread == (2.0, 2.0)


def test_ratio_is_the_median_of_the_rounds_ratios() -> None:
    assert EAGER.ratio_to(EAGER) == 1.0
    assert HALF.ratio_to(EAGER) == 0.5
    assert EAGER.ratio_to(HALF) == 2.0
    assert MIXED.ratio_to(EAGER) == 1.0  # of 1, 2 and 0.1; the medians alone would give 0.52
    assert MIXED.median / EAGER.median == pytest.approx(0.524, abs=1e-3)


def test_ratio_of_different_numbers_of_rounds_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^zip\(\) argument 2 is longer than argument 1$"):
        Timing("short", ((1.0, 1.0),)).ratio_to(EAGER)


def test_dictionary_is_ready_for_json() -> None:
    plain = a_benchmark().to_dict()
    assert json.loads(json.dumps(plain)) == plain
    assert (plain["model"], plain["environment"]) == ("Net", {"torch": "2.0", "threads": "2"})
    assert plain["left_out"] == [{"name": "onnxruntime", "note": "it is not installed"}]
    assert [row["name"] for row in plain["rows"]] == ["eager", "bnfuse", "other"]
    assert plain["rows"][1] == {
        "name": "bnfuse",
        "median_ms": 10.5,
        "p10_ms": HALF.spread[0],
        "p90_ms": HALF.spread[1],
        "calls": 9,
        "ratio": 0.5,
        "note": "",
    }


def test_text() -> None:
    assert str(a_benchmark()).splitlines() == [
        "               median  10th to 90th percentile  time against eager",
        "eager        21.00 ms           10.80 to 31.20                1.00",
        "bnfuse       10.50 ms            4.60 to 15.50                0.50",
        "other        11.00 ms            3.10 to 42.00                1.00  a remark",
        "onnxruntime         -                        -                   -  it is not installed",
        "torch 2.0, threads 2",
    ]


def test_text_is_plain_where_colours_are_forced_and_in_notebooks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    plain = str(a_benchmark())
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert str(a_benchmark()) == plain
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    assert str(a_benchmark()) == plain


def test_notes_are_no_markup() -> None:
    note = "pip install 'bnfuse[cpu]'."
    made = Benchmark("Net", {"gpu": "[red]"}, (EAGER,), (Timing("onnxruntime", note=note),))
    assert note in str(made)
    assert "gpu [red]" in str(made)
