"""Optional packages."""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

import pytest

import bnfuse
from bnfuse.errors import MissingDependencyError
from bnfuse.extras import _EXTRA_OF, require

ROOT = Path(__file__).resolve().parents[1]
SOURCES = [*(ROOT / "bnfuse").rglob("*.py"), *(ROOT / "passes").glob("*.py")]


def test_installed_package_is_imported() -> None:
    assert require("onnx", "to test") is sys.modules["onnx"]


@pytest.mark.parametrize("module", sorted({*_EXTRA_OF, "torchvision.models"}))
def test_missing_package(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    extra = _EXTRA_OF[module.split(".")[0]]
    wanted = (
        f"{module} is needed to test and does not import "
        f"(import of {module} halted; None in sys.modules): pip install 'bnfuse[{extra}]'."
    )
    with pytest.raises(MissingDependencyError, match=f"^{re.escape(wanted)}$") as caught:
        require(module, "to test")
    assert isinstance(caught.value.__cause__, ImportError)
    assert isinstance(caught.value, bnfuse.BnfuseError)


def test_which_extra_is_named() -> None:
    known = {"timm": "zoo", "torchvision": "zoo", "matplotlib": "plot", "onnx": "cpu"}
    assert {name: _EXTRA_OF[name] for name in known} == known


def test_every_extra_that_is_named_exists_and_installs_the_package() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for module, extra in _EXTRA_OF.items():
        lines = project["optional-dependencies"][extra]
        assert module in [re.split(r"[><=[]", line)[0].replace("-", "_") for line in lines]


def test_every_required_module_has_an_extra() -> None:
    found = {
        name
        for source in SOURCES
        for name in re.findall(r'require\(\s*"([\w.]+)"', source.read_text())
    }
    assert found >= {"onnx", "onnxruntime", "timm", "torchvision.models"}
    assert {name.split(".")[0] for name in found} <= set(_EXTRA_OF)


def test_optional_packages_are_imported_nowhere_else() -> None:
    pattern = re.compile(rf"^\s*(import|from) ({'|'.join(_EXTRA_OF)})\b", re.MULTILINE)
    assert pattern.search("    import onnx\n")
    assert [source.name for source in SOURCES if pattern.search(source.read_text())] == []
