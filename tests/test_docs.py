"""The documents say what the code does: their examples run, and their tables are complete."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

from bnfuse.moves import rules
from bnfuse.passes import PIPELINE
from bnfuse.report import REASONS

ROOT = Path(__file__).resolve().parents[1]
README, RULES = ROOT / "README.md", ROOT / "docs" / "rules.md"
FENCED = re.compile(r"^```pycon\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINKED = re.compile(r"\]\((?!https?:)([^)#]+)")
FILES = re.compile(r"`((?:\w+/)+\w+\.py)`")
MOST_COLUMNS = 120
DOCUMENTS = (
    "CONTRIBUTING.md", "CHANGELOG.md", "docs/rules.md", "docs/export.md", "docs/import.md",
    "docs/measured.md",
)  # fmt: skip


def failures(text: str, name: str) -> int:
    """Run the examples of a document in order, in one namespace, and count those that fail."""
    examples = "\n".join(FENCED.findall(text))
    test = doctest.DocTestParser().get_doctest(examples, {}, name, name, 0)
    assert test.examples
    return doctest.DocTestRunner().run(test).failed


def missing_kinds(text: str) -> set[str]:
    """Return the operations that absorb an affine or let it pass and that a text does not name."""
    return {kind.name for kind in rules.RULES if f"`{kind.name}`" not in text}


def reason_codes(text: str) -> set[str]:
    """Return the codes in the first column of the table of reasons."""
    table = text.partition("| code | obstacle |")[2].partition("\n\n")[0]
    codes = [row.split("|")[1] for row in table.splitlines() if row]
    return {code for cell in codes for code in re.findall("`([a-z-]+)`", cell)}


def long_lines(text: str) -> list[str]:
    """Return the lines of prose that are too long; rows of tables have to be."""
    return [
        x for x in text.splitlines() if len(x) > MOST_COLUMNS and not x.startswith(("|", ">>>"))
    ]


@pytest.mark.parametrize("path", [README, RULES], ids=lambda path: path.name)
def test_examples_run(path: Path) -> None:
    assert failures(path.read_text(), path.name) == 0


def test_a_wrong_example_is_noticed(capsys: pytest.CaptureFixture[str]) -> None:
    assert failures("```pycon\n>>> 1 + 1\n3\n\n```\n", "wrong") == 1
    assert "Expected:\n    3" in capsys.readouterr().out


def test_rules_name_every_operation_that_the_search_passes() -> None:
    text = RULES.read_text()
    assert missing_kinds(text) == set()
    assert missing_kinds(text.replace("`FLIP`", "")) == {"FLIP"}


def test_rules_name_every_pass() -> None:
    assert [one.name for one in PIPELINE if f"**{one.name}**" not in RULES.read_text()] == []


def test_rules_name_files_that_are_there() -> None:
    named = set(FILES.findall(RULES.read_text()))
    tops = (ROOT, ROOT / "bnfuse")
    assert len(named) > 10
    assert [name for name in named if not any((top / name).is_file() for top in tops)] == []


def test_readme_lists_every_reason() -> None:
    assert reason_codes(README.read_text()) == REASONS.keys()
    assert reason_codes("| code | obstacle |\n|---|---|\n| `a-b`, `c` | it |\n\n`d`") == {
        "a-b",
        "c",
    }


@pytest.mark.parametrize("name", ["README.md", *DOCUMENTS])
def test_documents_link_to_what_is_there(name: str) -> None:
    path = ROOT / name
    assert [x for x in LINKED.findall(path.read_text()) if not (path.parent / x).exists()] == []


@pytest.mark.parametrize("name", DOCUMENTS)
def test_documents_have_lines_of_120_columns(name: str) -> None:
    assert long_lines((ROOT / name).read_text()) == []
    assert len(long_lines("x" * (MOST_COLUMNS + 1))) == 1
