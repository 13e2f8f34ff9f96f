"""The report as text and as HTML."""

from __future__ import annotations

import html
import re
import xml.etree.ElementTree as ET

import pytest
import rich.console

import bnfuse
from bnfuse.report import Report, Row, decline
from bnfuse.report.render import as_html, as_table, as_text, headline
from bnfuse.report.report import report as report_of
from tests.report.test_report import optimized


def folded(name: str, site: str = "", into: str = "conv") -> Row:
    """Return a row of a folded batch norm."""
    return Row(name, site or name.replace(".", "_"), into=into, by="fold-affine")


def kept(name: str, code: str = "skipped", facts: str = "") -> Row:
    """Return a row of a batch norm that was kept."""
    reason = decline(code, name, facts)
    return Row(name, name, reason=code, why=reason.why, remedy=reason.remedy)


def printed(report: Report, limit: int) -> list[str]:
    """Return the lines a wide terminal shows."""
    console = rich.console.Console(width=200, no_color=True, record=True, quiet=False)
    with console.capture() as captured:
        console.print(as_table(report, limit=limit))
    return [line.rstrip() for line in captured.get().splitlines()]


@pytest.mark.parametrize(
    ("report", "wanted"),
    [
        (Report("Net"), "Net: 0 of 0 batch norms folded."),
        (Report("Net", folded=(folded("a"),)), "Net: 1 of 1 batch norms folded."),
        (Report("Net", merged=(folded("a"),)), "Net: 1 of 1 batch norms folded."),
        (
            Report("Net", folded=(folded("a"),), kept=(kept("b"), kept("c"))),
            "Net: 1 of 3 batch norms folded, 2 kept.",
        ),
        (
            Report("Net", folded=(folded("a"),), extra_bytes=2_345_678),
            "Net: 1 of 1 batch norms folded; 2.3 MB of weights added for shared layers.",
        ),
        (
            Report("Net", kept=(kept("b"),), extra_bytes=100_000),
            "Net: 0 of 1 batch norms folded, 1 kept; 0.1 MB of weights added for shared layers.",
        ),
    ],
)
def test_headline(report: Report, wanted: str) -> None:
    assert headline(report) == wanted


def test_text_in_full() -> None:
    report = Report(
        "Net",
        folded=(folded("block.bn"), folded("shared", "shared_1")),
        merged=(folded("branch.bn", into="branch.conv"),),
        kept=(kept("head.bn"),),
    )
    why, remedy = "head.bn was named in skip.", "Leave it out of skip to fold it."
    assert as_text(report).splitlines() == [
        "Net: 3 of 4 batch norms folded, 1 kept.",
        "batch norm         outcome  into or why",
        f"head.bn            kept     [skipped] {why} {remedy}",
        "branch.bn          merged   branch.conv (by fold-affine)",
        "block.bn           folded   conv (by fold-affine)",
        "shared (shared_1)  folded   conv (by fold-affine)",
    ]


def test_text_of_a_model_without_batch_norms_is_its_headline() -> None:
    assert as_text(Report("Net")) == "Net: 0 of 0 batch norms folded."


def test_str_is_the_text() -> None:
    made = report_of(optimized())
    assert str(made) == as_text(made)
    assert str(made).startswith("Sequential: 1 of 2 batch norms folded, 1 kept.\n")


def test_text_is_at_most_110_wide_and_loses_nothing() -> None:
    name = ".".join(f"block{i}_{'x' * 20}" for i in range(6))
    text = as_text(Report("Net", kept=(kept(name, "overflow", "something " * 20),)))
    assert max(map(len, text.splitlines())) <= 110
    assert [text.count(f"block{i}_") for i in range(6)] == [1] * 6
    assert text.count("something") == 20


@pytest.mark.parametrize("name", ["[red]", "[/bold]", "a[0]", ":smile:"])
def test_names_are_no_markup(name: str) -> None:
    report = Report("Net", folded=(folded("bn", into=name),), kept=(kept(name),))
    text = as_text(report)
    assert f"{name}  " in text
    assert f"{name} (by fold-affine)" in text
    assert f"{name} was named in skip." in text


def test_model_name_is_no_markup() -> None:
    assert as_text(Report("Net[int]")) == "Net[int]: 0 of 0 batch norms folded."


def test_text_has_no_control_codes_even_where_colours_are_forced(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    text = as_text(Report("Net", folded=(folded("bn"),)))
    assert "\x1b" not in text
    assert text.startswith("Net: 1 of 1 batch norms folded.\n")


def test_text_is_returned_in_a_notebook_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rich.console, "_is_jupyter", lambda: True)
    assert as_text(Report("Net")) == "Net: 0 of 0 batch norms folded."


def test_limit_counts_the_rest_of_each_outcome() -> None:
    report = Report(
        "Net",
        folded=tuple(folded(f"f{i}") for i in range(5)),
        kept=tuple(kept(f"k{i}") for i in range(3)),
    )
    assert [line.split()[0] for line in printed(report, 3)[2:]] == [
        *("k0", "k1", "k2"),
        *("f0", "f1", "f2"),
        "...",
    ]
    assert re.fullmatch(r"\.\.\. and 2 more +folded", printed(report, 3)[-1])
    assert [line for line in printed(report, 5) if "more" in line] == []
    assert re.fullmatch(r"\.\.\. and 5 more +folded", printed(report, 0)[-1])


def test_html_is_a_table_of_all_rows() -> None:
    report = Report("Net", folded=(folded("bn"),), kept=(kept("head"),))
    document = ET.fromstring(f"<div>{as_html(report)}</div>")
    assert document.findtext("p/b") == "Net: 1 of 2 batch norms folded, 1 kept."
    assert [cell.text for cell in document.iter("th")] == ["batch norm", "outcome", "into or why"]
    assert [[cell.text for cell in row] for row in document.iter("tr")][1:] == [
        ["head", "kept", "[skipped] head was named in skip. Leave it out of skip to fold it."],
        ["bn", "folded", "conv (by fold-affine)"],
    ]


def test_html_is_escaped() -> None:
    evil = "<script>alert('&')</script>"
    report = Report(evil, folded=(folded("bn", into=evil),), kept=(kept(evil),))
    text = as_html(report)
    assert "<script>" not in text
    assert text.count(html.escape(evil)) == 4  # the model, into, the name, the name in the reason
    cells = [cell.text for cell in ET.fromstring(f"<div>{text}</div>").iter("td")]
    assert evil in cells


def test_notebooks_show_the_html() -> None:
    made = bnfuse.report(optimized())
    assert made._repr_html_() == as_html(made)
