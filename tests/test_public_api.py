"""The names of the package: few, documented, and none by accident."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
import types
from pathlib import Path

import pytest

import bnfuse

ROOT = Path(__file__).resolve().parents[1]
HEAVY = ["onnx", "onnxscript", "onnxruntime", "timm", "torchvision", "tensorrt"]


def accidental(module: types.ModuleType) -> list[str]:
    """Return the names a module has beside its public ones, its submodules and dunders."""
    extra = set(dir(module)) - set(module.__all__)
    return sorted(
        name
        for name in extra
        if not (name.startswith("__") and name.endswith("__"))
        and not isinstance(getattr(module, name), types.ModuleType)
    )


@pytest.mark.parametrize("name", bnfuse.__all__)
def test_public_name_is_documented_and_ours(name: str) -> None:
    found = getattr(bnfuse, name)
    assert callable(found)
    assert (inspect.getdoc(found) or "").endswith((".", "True", "'no-linear-producer'", "_0"))
    assert found.__doc__ is not None
    assert len(found.__doc__.splitlines()[0]) > 20
    assert found.__module__.split(".")[0] == "bnfuse"


def test_public_names_are_few_and_sorted() -> None:
    assert 5 <= len(bnfuse.__all__) <= 20
    assert len(set(bnfuse.__all__)) == len(bnfuse.__all__)
    assert bnfuse.__all__ == sorted(bnfuse.__all__)


def test_nothing_is_public_by_accident() -> None:
    assert accidental(bnfuse) == []
    modules = [name for name in dir(bnfuse) if isinstance(getattr(bnfuse, name), types.ModuleType)]
    assert [n for n in modules if getattr(bnfuse, n).__name__ != f"bnfuse.{n}"] == []


def test_the_search_for_accidents_notices_one() -> None:
    module = types.ModuleType("m")
    module.__dict__.update({"__all__": ["a"], "a": 1, "left_over": len, "sub": types})
    assert accidental(module) == ["left_over"]


def test_version_is_the_projects() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    assert f'version = "{bnfuse.__version__}"\n' in text


def test_import_brings_in_no_optional_package() -> None:
    code = (
        "import json, sys, bnfuse\n"
        f"print(json.dumps([bnfuse.__file__, [n for n in {HEAVY} if n in sys.modules]]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == [str(ROOT / "bnfuse" / "__init__.py"), []]
