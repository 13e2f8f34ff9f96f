"""The closed list of reasons: complete, used, and readable with any facts."""

from __future__ import annotations

import ast
import dataclasses
import re
import string
from pathlib import Path

import pytest

from bnfuse.report import REASONS, Decline, decline

ROOT = Path(__file__).resolve().parents[2]
CODES = {
    "batch-statistics",
    "check-failed",
    "not-checkable",
    "computed-constants",
    "hooked",
    "inside-opaque-call",
    "mixed-dtype",
    "no-linear-producer",
    "no-linear-reader",
    "not-captured",
    "not-copyable",
    "not-finite",
    "odd-constants",
    "other-axis",
    "overflow",
    "several-readers",
    "skipped",
    "slow-clamp",
    "training-mode",
    "written-constants",
    "written-value",
    "zero-padding",
}


def codes_given_in(source: str) -> set[str]:
    """Return the literal codes given to ``decline`` and ``all_kept`` in a source text."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and node.args:
            name = getattr(node.func, "id", getattr(node.func, "attr", ""))
            first = node.args[0]
            if name in ("decline", "all_kept") and isinstance(first, ast.Constant):
                found.add(str(first.value))
    return found


def test_codes_are_the_published_ones() -> None:
    assert set(REASONS) == CODES


@pytest.mark.parametrize("code", sorted(REASONS))
def test_reason_is_filed_under_its_own_code_in_kebab_case(code: str) -> None:
    assert REASONS[code].code == code
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", code)


@pytest.mark.parametrize("code", sorted(REASONS))
def test_reason_is_two_sentences_about_the_layer(code: str) -> None:
    reason = REASONS[code]
    fields = {name for _, name, _, _ in string.Formatter().parse(reason.why) if name}
    assert fields <= {"name", "facts"}
    assert fields
    assert reason.why.endswith(".")
    assert re.fullmatch(r"[A-Z].*\.", reason.remedy)
    assert "{" not in reason.remedy


def test_every_code_is_used_and_every_used_code_exists() -> None:
    sources = [*(ROOT / "bnfuse").rglob("*.py"), *(ROOT / "passes").glob("*.py")]
    assert len(sources) > 20
    used = set().union(*(codes_given_in(source.read_text()) for source in sources))
    assert used == CODES


def test_the_search_for_used_codes_notices_an_unknown_one() -> None:
    source = 'decline("no-such-code", "bn")\ninventory.all_kept("another", facts)\nf("third")'
    assert codes_given_in(source) == {"no-such-code", "another"}


def test_decline_fills_in_the_facts() -> None:
    assert decline("other-axis", "head.bn", "head.fc") == Decline(
        "other-axis",
        "head.bn normalizes another axis than the one head.fc writes its channels on.",
        "Nothing to do: the two do not commute.",
    )


@pytest.mark.parametrize("name", ["bn", "trunk.bn", "what", "norm", "stem.bn", "{facts}"])
@pytest.mark.parametrize("code", sorted(REASONS))
def test_sentence_starts_with_the_name_as_it_is_or_a_capital(code: str, name: str) -> None:
    why = decline(code, name, "facts").why
    if REASONS[code].why.startswith("{name}"):
        assert why.startswith(f"{name} ")
    else:
        assert why[0].isupper()
        assert why[1:] == REASONS[code].why.format(name=name, facts="facts")[1:]


def test_facts_are_not_read_as_a_format() -> None:
    assert decline("not-captured", "bn", "{0} {name}").why == (
        "bn is called by a forward of which no graph can be made: {0} {name}."
    )


def test_unknown_code_is_a_key_error() -> None:
    with pytest.raises(KeyError, match=r"^'no-such-code'$"):
        decline("no-such-code", "bn")


def test_reasons_cannot_be_changed() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError, match="cannot assign to field 'why'"):
        setattr(REASONS["hooked"], "why", "because")  # noqa: B010 - mypy forbids the assignment
