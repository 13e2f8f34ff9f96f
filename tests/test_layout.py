"""The tree: passes beside the package and part of it, and a test for every module."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import bnfuse.passes

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_TESTS_OF_THEIR_OWN = {
    "bnfuse/__init__.py": "tests/test_public_api.py",
    "bnfuse/__main__.py": "one call; run by tests/test_packaging.py and tests/cli/test_app.py",
    "bnfuse/cli/arguments.py": "each is used by the tests of the commands",
    "bnfuse/cli/terminal.py": "what it prints is checked by the tests of the commands",
    "bnfuse/ops/table.py": "data; every spelling is read by tests/ops/test_calls.py",
    "bnfuse/outcomes.py": "what it reports is checked by tests/test_attempts.py",
    "bnfuse/optimizer.py": "every test of a fold goes through it",
    "bnfuse/validation/result.py": "what it says is checked by tests/validation/test_verify.py",
    "bnfuse/validation/runners.py": "every test of verify goes through it",
}


def expected_test(module: Path) -> Path:
    """Return where the tests of a module stand."""
    folder = module.relative_to("bnfuse").parent
    return Path("tests") / folder / f"test_{module.stem}.py"


def modules_of_the_package() -> list[Path]:
    """Return every module outside passes/, relative to the root."""
    found = [path.relative_to(ROOT) for path in (ROOT / "bnfuse").rglob("*.py")]
    return [path for path in sorted(found) if path.parts[1] != "passes"]


def exempt(module: Path) -> bool:
    """Whether a module needs no tests of its own: it is listed, or lists a folder's names."""
    return module.as_posix() in WITHOUT_TESTS_OF_THEIR_OWN or (
        module.name == "__init__.py" and len(module.parts) > 2
    )


def test_passes_are_part_of_the_package_and_stand_beside_it() -> None:
    file = Path(bnfuse.passes.__file__ or "")
    assert file.resolve().parent == ROOT / "passes"
    assert file == ROOT / "bnfuse" / "passes" / "__init__.py"
    assert (ROOT / "bnfuse" / "passes").is_symlink()
    assert (ROOT / "bnfuse" / "passes").readlink() == Path("../passes")


def test_passes_are_not_a_package_of_their_own() -> None:
    done = subprocess.run(
        [sys.executable, "-c", "import passes"], cwd=ROOT, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == (
        "ImportError: this directory is the package bnfuse.passes; import that, not 'passes'"
    )


def test_every_pass_has_its_test_and_every_test_its_pass() -> None:
    passes = {path.stem for path in (ROOT / "passes").glob("*.py")} - {"__init__"}
    tests = {path.stem for path in (ROOT / "tests" / "passes").glob("test_*.py")}
    assert len(passes) >= 3
    assert {f"test_{name}" for name in passes} <= tests
    # A pass with many tests has further files: test_fold_affine_declines for fold_affine.
    assert all(any(test.startswith(f"test_{name}") for name in passes) for test in tests)


@pytest.mark.parametrize("module", modules_of_the_package(), ids=str)
def test_every_module_has_its_tests(module: Path) -> None:
    assert exempt(module) != (ROOT / expected_test(module)).is_file()


def test_every_exception_is_needed() -> None:
    modules = {path.as_posix() for path in modules_of_the_package()}
    assert set(WITHOUT_TESTS_OF_THEIR_OWN) <= modules
    assert expected_test(Path("bnfuse/cli/app.py")) == Path("tests/cli/test_app.py")
    assert expected_test(Path("bnfuse/zoo.py")) == Path("tests/test_zoo.py")


def test_project_file_lists_every_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    inits = [*(ROOT / "bnfuse").rglob("__init__.py"), ROOT / "bnfuse" / "passes" / "__init__.py"]
    found = {path.parent.relative_to(ROOT) for path in inits}
    listed = project["tool"]["setuptools"]["packages"]
    assert sorted(listed) == sorted(path.as_posix().replace("/", ".") for path in found)
    assert listed == sorted(listed)
    assert project["tool"]["setuptools"]["package-dir"] == {"bnfuse.passes": "passes"}


def test_every_folder_of_modules_is_a_package() -> None:
    tops = [ROOT / name for name in ("bnfuse", "passes", "tests")]
    folders = {path.parent for top in tops for path in top.rglob("*.py")}
    assert len(folders) > 10
    assert [str(folder) for folder in folders if not (folder / "__init__.py").is_file()] == []


@pytest.mark.skipif(not (ROOT / ".git").exists(), reason="this is no checkout")
def test_link_is_kept_as_a_link_by_git() -> None:
    done = subprocess.run(
        ["git", "ls-files", "-s", "bnfuse/passes"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    mode, _, stage, path = done.stdout.split()
    assert (mode, stage, path) == ("120000", "0", "bnfuse/passes")
