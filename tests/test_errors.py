"""The errors a user can meet."""

from __future__ import annotations

import ast
import inspect
import pickle
from pathlib import Path

import pytest

from bnfuse import errors
from bnfuse.errors import first_line

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [*(ROOT / "bnfuse").rglob("*.py"), *(ROOT / "passes").glob("*.py")]
ERRORS = [kind for _, kind in inspect.getmembers(errors, inspect.isclass)]
NAMES = {kind.__name__ for kind in ERRORS}


def raised(source: str) -> list[tuple[str, ast.Call]]:
    """Return every error of bnfuse made in a source text."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    named = [(getattr(call.func, "id", ""), call) for call in calls]
    return [(name, call) for name, call in named if name in NAMES]


def last_text(call: ast.Call) -> str:
    """Return the last literal part of a message."""
    message = call.args[0]
    part = message.values[-1] if isinstance(message, ast.JoinedStr) else message
    return part.value if isinstance(part, ast.Constant) and isinstance(part.value, str) else ""


def test_one_base_class() -> None:
    assert sorted(NAMES) == [
        *("AssumptionError", "BnfuseError", "ExportError", "MissingDependencyError"),
        *("RequestError", "VerificationError"),
    ]
    assert all(issubclass(kind, errors.BnfuseError) for kind in ERRORS)
    assert errors.BnfuseError.__bases__ == (Exception,)


@pytest.mark.parametrize("kind", ERRORS)
def test_error_says_what_it_is_for_and_can_be_pickled(kind: type[Exception]) -> None:
    assert (kind.__doc__ or "").endswith(".")
    again = pickle.loads(pickle.dumps(kind("facts: remedy.")))
    assert type(again) is kind
    assert str(again) == "facts: remedy."


def test_every_error_is_raised_somewhere() -> None:
    made = {name for source in SOURCES for name, _ in raised(source.read_text())}
    assert made == NAMES


def test_messages_are_sentences() -> None:
    odd = [
        f"{source.name}:{call.lineno}"
        for source in SOURCES
        for _, call in raised(source.read_text())
        if last_text(call) and not last_text(call).endswith((".", "?"))
    ]
    assert odd == []


def test_first_line_of_nothing() -> None:
    assert first_line(ValueError("\n one\ntwo")) == "one"
    assert first_line(ValueError()) == ""
