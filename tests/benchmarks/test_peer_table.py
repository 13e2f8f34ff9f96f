"""The tables of what became of the cases."""

from __future__ import annotations

from typing import Any

from benchmarks.peer_table import by_tool, cell, line


def rows(*outcomes: str, **rest: Any) -> list[dict[str, Any]]:
    return [
        {"case": f"c{number}", "tool": "t", "expects_fold": True, "outcome": outcome, **rest}
        for number, outcome in enumerate(outcomes)
    ]


def test_outcomes_are_counted() -> None:
    given = rows("folded", "folded", "kept", "refused", "original changed", "not comparable")
    assert cell(given) == "2f 1k 1r 1c 1-"
    assert line(given) == ["2", "1", "1", "0", "0", "0", "1", "1"]


def test_kinds_of_wrong_are_told_apart() -> None:
    assert line(rows("wrong", values=True))[3:6] == ["1", "0", "0"]
    assert line(rows("wrong", values=False))[3:6] == ["0", "1", "0"]
    assert line(rows("wrong", values=True, warned=["x"]))[3:6] == ["0", "0", "1"]


def test_a_table_for_each_kind_of_case() -> None:
    made = by_tool(rows("folded"), {"t": "a tool"})
    assert "| 1 cases to be folded |" in made
    assert "| 0 cases to be left as they are |" in made
    assert "| a tool | 1 | 0 |" in made
