"""Factories that make a model, that are not there, that raise and that return other things."""

from __future__ import annotations

import re
import sys
from typing import TYPE_CHECKING

import pytest
import torch
from torch import nn

from bnfuse.errors import RequestError
from bnfuse.factory import FORMS, from_factory

if TYPE_CHECKING:
    from pathlib import Path

FACTORIES = """
import sys
import torch
from torch import nn

def plain():
    return nn.Linear(3, 2)

def pair():
    return plain(), (torch.ones(1, 3),)

def listed():
    return plain(), [torch.ones(1, 3)]

def tensor():
    return plain(), torch.ones(2, 3)

def number():
    return 3

def failing():
    raise ValueError("it is broken\\nbadly")

def inside():
    return nn.Linear(3, "2")

def silent():
    raise AssertionError

def exiting():
    sys.exit("usage: nets FILE")

def ending():
    raise GeneratorExit("it ends")

def grouped():
    raise BaseExceptionGroup("two", [KeyboardInterrupt(), SystemExit()])

class Own(BaseException):
    pass

def own():
    raise Own

def interrupted():
    raise KeyboardInterrupt

def needing(width, height=2):
    return nn.Linear(width, height)

model = plain()
size = 3
Layer = nn.Identity
unknown_signature = type  # called without arguments, it raises
"""


@pytest.fixture(autouse=True)
def _modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make modules in the current folder, which Python does not look in."""
    (tmp_path / "ours.py").write_text(FACTORIES)
    (tmp_path / "broken.py").write_text("def model(:\n")
    (tmp_path / "lacking.py").write_text("import no_such_package.inner\n")
    (tmp_path / "ends.py").write_text("raise GeneratorExit\n")
    (tmp_path / "exits.py").write_text("raise SystemExit(2)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    for name in ("ours", "broken", "lacking", "ends", "exits"):
        monkeypatch.delitem(sys.modules, name, raising=False)


def refused(wanted: str, name: str, module: str = "ours") -> None:
    """Check that a factory is refused with a message."""
    with pytest.raises(RequestError, match=f"^{re.escape(wanted)}$"):
        from_factory(module, name)


@pytest.mark.parametrize(
    ("name", "shape"), [("plain", None), ("pair", (1, 3)), ("listed", (1, 3)), ("tensor", (2, 3))]
)
def test_what_a_factory_returns(name: str, shape: tuple[int, ...] | None) -> None:
    model, example = from_factory("ours", name)
    assert type(model) is nn.Linear
    assert shape == (None if example is None else example[0].shape)
    assert example is None or (isinstance(example, tuple) and torch.is_tensor(example[0]))


def test_a_class_is_a_factory() -> None:
    assert type(from_factory("ours", "Layer")[0]) is nn.Identity


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("failing", "ValueError (it is broken, line 22 of ours.py)"),
        ("silent", "AssertionError (without a message, line 28 of ours.py)"),
        ("exiting", "SystemExit (usage: nets FILE, line 31 of ours.py)"),
        ("ending", "GeneratorExit (it ends, line 34 of ours.py)"),
        ("grouped", "BaseExceptionGroup (two (2 sub-exceptions), line 37 of ours.py)"),
        ("own", "Own (without a message, line 43 of ours.py)"),
    ],
)
def test_a_factory_that_raises(name: str, what: str) -> None:
    refused(f"the factory ours:{name} raised {what}: mend it, or name another.", name)


def test_an_interrupt_is_none_of_the_factory() -> None:
    with pytest.raises(KeyboardInterrupt):
        from_factory("ours", "interrupted")


def test_what_is_called_by_a_factory_raises() -> None:
    pattern = r"^the factory ours:inside raised TypeError \(.+, line 25 of ours\.py\): mend it"
    with pytest.raises(RequestError, match=pattern):
        from_factory("ours", "inside")


def test_a_factory_that_needs_arguments() -> None:
    refused(
        "ours:needing is called without arguments and cannot be (missing a required argument: "
        "'width'): give all of them defaults, or name a function that needs none.",
        "needing",
    )


def test_a_factory_without_a_signature() -> None:
    pattern = r"^the factory ours:unknown_signature raised TypeError \(type.+\): mend it, or name"
    with pytest.raises(RequestError, match=pattern):
        from_factory("ours", "unknown_signature")


def test_what_is_no_factory() -> None:
    for name, kind in (("model", "Linear"), ("size", "int")):
        refused(
            f"ours:{name} is an object of type {kind}: name a function that returns the model.",
            name,
        )
    refused(
        "ours:number returned an object of type int: let it return a torch.nn.Module, or one and "
        "a tuple of example inputs.",
        "number",
    )
    refused("there is no 'plane' in 'ours': did you mean ours:plain?", "plane")
    refused("there is no 'q_q_q' in 'ours': name what is there.", "q_q_q")


@pytest.mark.parametrize(
    ("module", "what"),
    [
        ("broken", "SyntaxError: invalid syntax (broken.py, line 1)"),
        ("lacking", "ModuleNotFoundError: No module named 'no_such_package'"),
        ("exits", "SystemExit: 2"),
        ("ends", "GeneratorExit: without a message"),
    ],
)
def test_a_module_that_raises(module: str, what: str) -> None:
    remedy = "mend the module, or install what it needs."
    refused(f"{module!r} cannot be imported ({what}): {remedy}", "net", module)


@pytest.mark.parametrize(
    ("module", "remedy"),
    [
        ("ours.py", "did you mean ours:net?"),
        ("some/nets.py", "did you mean some.nets:net?"),
        ("./ours", "did you mean ours:net?"),
        ("timn", "did you mean timm:net?"),
        ("nowhere", f"write a model like {FORMS}."),
        ("ours.deeper", f"write a model like {FORMS}."),
        ("..ours", f"write a model like {FORMS}."),
        ("../ours.py", f"write a model like {FORMS}."),
        ("/tmp/ours.py", f"write a model like {FORMS}."),
    ],
)
def test_a_module_that_is_not_there(module: str, remedy: str) -> None:
    pattern = rf"^{re.escape(repr(module))} cannot be imported \(.+\): {re.escape(remedy)}$"
    with pytest.raises(RequestError, match=pattern):
        from_factory(module, "net")
