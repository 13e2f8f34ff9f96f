"""Style and types of the whole tree, and that the checks are on."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
FUNCTION_KINDS = (ast.FunctionDef, ast.AsyncFunctionDef)
MOST_LINES, MOST_LINES_OF_A_FUNCTION = 250, 40
SOURCES = sorted(
    path.relative_to(ROOT)
    for top in ("bnfuse", "passes", "benchmarks", "examples")
    for path in (ROOT / top).rglob("*.py")
    if "bnfuse/passes/" not in path.as_posix()
)
GOOD = '''"""A module."""

from __future__ import annotations


def double(x: int) -> int:
    """Return twice the number."""
    return 2 * x
'''
BAD_LINT = {
    "unused import": GOOD.replace("annotations\n", "annotations\n\nimport os\n", 1),
    "no docstring": GOOD.replace('    """Return twice the number."""\n', ""),
    "no annotation": GOOD.replace("x: int", "x"),
    "print": GOOD.replace("    return", "    print(x)\n    return"),
    "name": GOOD.replace("double", "Double"),
    "complexity": GOOD.replace("    return 2 * x", "    return (" + "x and " * 3 + "x)" + "")
    + "\n\ndef many(x: int) -> None:\n"
    + '    """Branch."""\n'
    + "".join(f"    if x == {i}:\n        double({i})\n" for i in range(9)),
}
BAD_TYPES = {
    "wrong type": GOOD.replace("return 2 * x", 'return "2"'),
    "untyped": GOOD.replace("x: int) -> int", ")").replace("2 * x", "2"),
    "unused ignore": GOOD.replace("2 * x", "2 * x  # type: ignore[misc]"),
}


def run(*command: str, given: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a tool at the root of the project."""
    return subprocess.run(
        [sys.executable, "-m", *command], cwd=ROOT, input=given, capture_output=True, text=True
    )


def complaints(source: str) -> list[str]:
    """Return what is wrong with the size of a source text, and with its description."""
    tree = ast.parse(source)
    found = [] if ast.get_docstring(tree) else ["no description"]
    if len(source.splitlines()) > MOST_LINES:
        found.append("too many lines")
    functions = [node for node in ast.walk(tree) if isinstance(node, FUNCTION_KINDS)]
    too_long = [node.name for node in functions if length(node) > MOST_LINES_OF_A_FUNCTION]
    found += [f"{name} is too long" for name in too_long]
    return found


def length(function: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Return how many lines a function has, its description apart."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    first = function.body[0]
    if ast.get_docstring(function, clean=False) is not None:
        lines -= (first.end_lineno or 0) - first.lineno + 1
    return lines


def function(lines: int, description: int) -> str:
    """Return a function with so many lines of code and of description."""
    text = "\n".join(["    A line."] * (description - 2))
    body = "\n".join(["    x = 1"] * (lines - 1))
    return f'"""M."""\n\ndef f():\n    """Say.\n{text}\n    """\n{body}\n'


@pytest.mark.parametrize("path", SOURCES, ids=str)
def test_modules_are_short_and_described(path: Path) -> None:
    assert complaints((ROOT / path).read_text()) == []


def test_the_size_check_notices_violations() -> None:
    assert complaints(GOOD) == []
    assert complaints("x = 1\n") == ["no description"]
    assert complaints('"""M."""\n' + "x = 1\n" * MOST_LINES) == ["too many lines"]
    assert complaints('"""M."""\n' + "x = 1\n" * (MOST_LINES - 1)) == []
    assert complaints(function(MOST_LINES_OF_A_FUNCTION, 30)) == []
    assert complaints(function(MOST_LINES_OF_A_FUNCTION + 1, 3)) == ["f is too long"]


def test_all_sources_are_looked_at() -> None:
    names = {path.as_posix() for path in SOURCES}
    assert {"bnfuse/zoo.py", "bnfuse/cli/app.py", "passes/fold_affine.py"} <= names
    assert len(SOURCES) > 40


def test_ruff_check() -> None:
    done = run("ruff", "check", ".")
    assert done.returncode == 0, done.stdout + done.stderr


def test_ruff_format() -> None:
    done = run("ruff", "format", "--check", ".")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("folder", ["bnfuse", "passes"])
def test_ruff_is_on(folder: str) -> None:
    command = ("ruff", "check", "--stdin-filename", f"{folder}/snippet.py", "-")
    assert run(*command, given=GOOD).returncode == 0
    for what, snippet in BAD_LINT.items():
        done = run(*command, given=snippet)
        assert done.returncode == 1, what
        assert "Found 1 error" in done.stdout, what + done.stdout


def test_ruff_format_is_on() -> None:
    command = ("ruff", "format", "--check", "--stdin-filename", "bnfuse/snippet.py", "-")
    assert run(*command, given=GOOD).returncode == 0
    assert run(*command, given=GOOD.replace("2 * x", "2*x")).returncode == 1


def test_mypy() -> None:
    done = run("mypy")
    assert done.returncode == 0, done.stdout + done.stderr


def test_mypy_is_on(tmp_path: Path) -> None:
    path = tmp_path / "snippet.py"
    command = ("mypy", "--config-file", str(ROOT / "pyproject.toml"), str(path))
    path.write_text(GOOD)
    assert run(*command).returncode == 0
    for what, snippet in BAD_TYPES.items():
        path.write_text(snippet)
        done = run(*command)
        assert done.returncode == 1, what
        assert "Found 1 error in 1 file" in done.stdout, what + done.stdout
